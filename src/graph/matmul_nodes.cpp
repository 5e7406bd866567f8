#include "graph/matmul_nodes.h"

#include <algorithm>
#include <cassert>

#include "ggml-backend.h"
#include "graph/node_threads.h"
#include "matmul/bf16.h"
#include "matmul/columns.h"
#include "matmul/f32.h"
#include "matmul/int8.h"
#include "matmul/unpack.h"

namespace lacake {
namespace {

using matmul::Kernel;
using matmul::kTileRows;
using matmul::Matrix;
using matmul::Pieces;
using matmul::Tile;

// What a node multiplies: a packed matrix, or one as stored.
struct Node {
  const matmul::Packed* packed = nullptr;
  Matrix stored;
  Pieces pieces = Pieces::kOne;  // of bf16 tiles
  Items items;

  std::size_t n_in() const { return stored.n_in; }
  std::size_t n_out() const { return stored.n_out; }
  std::size_t n_tiles() const { return (n_out() + kTileRows - 1) / kTileRows; }
  std::size_t rows_of(std::size_t tile) const { return std::min(kTileRows, n_out() - tile * kTileRows); }
  bool is_affine() const { return matmul::is_affine(stored.type) && n_in() % matmul::kBlock == 0; }
  void unpack(std::size_t tile, const Tile& to) const {
    if (packed) {
      packed->unpack(tile, to);
    } else {
      matmul::unpack_tile(stored, tile * kTileRows, to);
    }
  }
  // What is not affine. `row` is scratch of n_in floats.
  void unpack_f32(std::size_t tile, float* row, float* to) const {
    if (packed) {
      packed->unpack_f32(tile, to);
    } else {
      matmul::unpack_tile_f32(stored, tile * kTileRows, row, to);
    }
  }
};

Matrix matrix_of(const ggml_tensor* weight) {
  return {.data = (const std::byte*)weight->data,
          .type = weight->type,
          .n_in = (std::size_t)weight->ne[0],
          .n_out = (std::size_t)weight->ne[1]};
}

void quantise(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor* x = dst->src[0];
  const auto n = (std::size_t)x->ne[0];
  for (std::int64_t c = ith; c < x->ne[1]; c += nth) {
    matmul::quantise_column((const float*)((const char*)x->data + (std::size_t)c * x->nb[1]), n,
                            (std::byte*)dst->data + (std::size_t)c * dst->nb[1]);
  }
}

void multiply_int8_tiles(ggml_tensor* dst, int ith, int nth, void* userdata) {
  Node& node = *(Node*)userdata;
  const auto* columns = (const std::byte*)dst->src[0]->data;
  const Tile tile = matmul::tile_at(scratch_of(dst->src[1], ith), node.n_in());
  node.items.take(node.n_tiles(), nth, [&](std::size_t i) {
    node.unpack(i, tile);
    matmul::multiply_tile(tile, matmul::bits_of(node.stored.type), node.n_in(), node.rows_of(i), columns,
                          (std::size_t)dst->ne[1], (float*)dst->data + i * kTileRows, node.n_out());
  });
}

// Scratch of an f32 tile: the tile, then what it is unpacked from.
std::size_t f32_tile_bytes(std::size_t n_in) {
  return n_in * kTileRows * sizeof(float) + std::max(matmul::tile_bytes(n_in), n_in * sizeof(float));
}

void multiply_f32_tiles(ggml_tensor* dst, int ith, int nth, void* userdata) {
  Node& node = *(Node*)userdata;
  const std::size_t n_in = node.n_in();
  const ggml_tensor* x = dst->src[0];
  auto* tile = (float*)scratch_of(dst->src[1], ith);
  auto* bytes = (std::byte*)(tile + n_in * kTileRows);
  node.items.take(node.n_tiles(), nth, [&](std::size_t i) {
    if (node.is_affine()) {
      node.unpack(i, matmul::tile_at(bytes, n_in));
      matmul::expand_tile(matmul::tile_at(bytes, n_in), n_in, tile);
    } else {
      node.unpack_f32(i, (float*)bytes, tile);
    }
    matmul::multiply_tile_f32(tile, n_in, node.rows_of(i), (const float*)x->data, x->nb[1] / sizeof(float),
                              (std::size_t)dst->ne[1], (float*)dst->data + i * kTileRows, node.n_out());
  });
}

// ggml aligns to 32 bytes; a tile's rows are whole cache lines where it begins with one.
constexpr std::size_t kLine = 64;
std::byte* on_line(void* memory) { return (std::byte*)(((std::uintptr_t)memory + kLine - 1) / kLine * kLine); }

template <Pieces pieces>
void split(ggml_tensor* dst, int ith, int nth, void*) {
  const ggml_tensor* x = dst->src[0];
  const auto n = (std::size_t)x->ne[0];
  const std::size_t block_bytes = matmul::column_block_bytes(n, pieces);
  for (std::int64_t c = ith; c < x->ne[1]; c += nth) {
    const std::size_t block = (std::size_t)c / matmul::kColumnBlock;
    matmul::split_column((const float*)((const char*)x->data + (std::size_t)c * x->nb[1]), n, pieces,
                         (std::size_t)c % matmul::kColumnBlock, on_line(dst->data) + block * block_bytes);
  }
}

// How a product of bf16 tiles is walked. Multiplied columns should come from L2 (2 MB where there is such a unit): read
// from beyond it the product takes 1.7 times as long. Where they do not fit, a strip of tiles is unpacked at once and
// meets one group of columns after the other, as many as half of L2 holds.
struct Bf16Walk {
  std::size_t strip;  // tiles
  std::size_t group;  // columns

  Bf16Walk(std::size_t n_tiles, std::size_t n_in, std::size_t n_columns, Pieces pieces, int n_threads) {
    constexpr std::size_t kL2 = 2 << 20, kLongest = 4;
    const std::size_t block_bytes = matmul::column_block_bytes(n_in, pieces);
    strip = 1;
    group = n_columns;
    if (n_columns / matmul::kColumnBlock * block_bytes <= kL2 / 4 * 3) return;
    group = std::max<std::size_t>(kL2 / 2 / block_bytes, 2) * matmul::kColumnBlock;
    // As many strips for one thread as for the other.
    const auto n = (std::size_t)n_threads;
    const std::size_t rounds = (n_tiles + n * kLongest - 1) / (n * kLongest);
    strip = (n_tiles + n * rounds - 1) / (n * rounds);
  }
};

Bf16Walk walk_of(const Node& node, std::int64_t n_columns, int n_threads) {
  return {node.n_tiles(), node.n_in(), (std::size_t)n_columns, node.pieces, n_threads};
}

// Scratch: a strip of bf16 tiles, then what one of them is split from.
std::size_t bf16_scratch_bytes(const Node& node, std::int64_t n_columns, int n_threads) {
  return kLine + walk_of(node, n_columns, n_threads).strip * matmul::split_tile_bytes(node.n_in(), node.pieces) +
         f32_tile_bytes(node.n_in());
}

void multiply_bf16_tiles(ggml_tensor* dst, int ith, int nth, void* userdata) {
  Node& node = *(Node*)userdata;
  const std::size_t n_in = node.n_in(), n_tiles = node.n_tiles(), n_columns = (std::size_t)dst->ne[1];
  const std::size_t tile_bytes = matmul::split_tile_bytes(n_in, node.pieces);
  const std::size_t block_bytes = matmul::column_block_bytes(n_in, node.pieces);
  const Bf16Walk walk = walk_of(node, dst->ne[1], nth);
  const std::byte* columns = on_line(dst->src[0]->data);
  std::byte* tiles = on_line(scratch_of(dst->src[1], ith));
  std::byte* rest = tiles + walk.strip * tile_bytes;
  node.items.take((n_tiles + walk.strip - 1) / walk.strip, nth, [&](std::size_t item) {
    const std::size_t begin = item * walk.strip, end = std::min(n_tiles, begin + walk.strip);
    for (std::size_t i = begin; i < end; ++i) {
      std::byte* tile = tiles + (i - begin) * tile_bytes;
      if (node.is_affine()) {
        node.unpack(i, matmul::tile_at(rest, n_in));
        matmul::split_tile(matmul::tile_at(rest, n_in), n_in, node.pieces, tile);
      } else {
        auto* floats = (float*)rest;
        node.unpack_f32(i, floats + n_in * kTileRows, floats);
        matmul::split_tile(floats, n_in, node.pieces, tile);
      }
    }
    for (std::size_t c = 0; c < n_columns; c += walk.group) {
      for (std::size_t i = begin; i < end; ++i) {
        matmul::multiply_tile_bf16(tiles + (i - begin) * tile_bytes, n_in, node.rows_of(i), node.pieces,
                                   columns + c / matmul::kColumnBlock * block_bytes,
                                   std::min(walk.group, n_columns - c),
                                   (float*)dst->data + c * node.n_out() + i * kTileRows, node.n_out());
      }
    }
  });
}

// Rows of a packed matrix, as ggml_get_rows gives those of others.
void read_rows(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& packed = *(const matmul::Packed*)userdata;
  const auto* ids = (const std::int32_t*)dst->src[0]->data;
  for (std::int64_t i = ith; i < dst->ne[1]; i += nth) {
    packed.read_row((std::size_t)ids[i], (float*)dst->data + (std::size_t)i * packed.n_in());
  }
}

}  // namespace

ggml_tensor* MatmulNodes::converted(ggml_tensor* x, ggml_custom_op_t how, std::size_t bytes, std::int64_t n) {
  if (x == last_x_ && how == last_how_) return last_converted_;
  last_x_ = x;
  last_how_ = how;
  last_converted_ = ggml_custom_4d(graph_.context(), GGML_TYPE_I8, (std::int64_t)bytes, n, 1, 1, &x, 1, how,
                                   GGML_N_TASKS_MAX, nullptr);
  return last_converted_;
}

ggml_tensor* MatmulNodes::quantised(ggml_tensor* x) {
  return converted(x, quantise, matmul::column_bytes((std::size_t)x->ne[0]), x->ne[1]);
}

ggml_tensor* MatmulNodes::in_bf16(ggml_tensor* x, Pieces pieces) {
  const std::size_t n_blocks = ((std::size_t)x->ne[1] + matmul::kColumnBlock - 1) / matmul::kColumnBlock;
  const std::size_t bytes = kLine + n_blocks * matmul::column_block_bytes((std::size_t)x->ne[0], pieces);
  return converted(x, pieces == Pieces::kOne ? split<Pieces::kOne> : split<Pieces::kTwo>, bytes, 1);
}

ggml_tensor* MatmulNodes::scratch(std::size_t bytes_each) {
  for (ggml_tensor* t : scratch_) {
    if ((std::size_t)t->ne[0] >= bytes_each) return t;
  }
  const std::size_t aligned = (bytes_each + 63) / 64 * 64;
  return scratch_.emplace_back(graph_.input(GGML_TYPE_I8, (std::int64_t)aligned, plan_.threads));
}

ggml_tensor* MatmulNodes::rows(ggml_tensor* weight, ggml_tensor* ids) {
  const matmul::Packed* packed = weights_.packed(weight);
  if (!packed) return ggml_get_rows(graph_.context(), weight, ids);
  return ggml_custom_4d(graph_.context(), GGML_TYPE_F32, weight->ne[0], ids->ne[0], 1, 1, &ids, 1, read_rows,
                        GGML_N_TASKS_MAX, const_cast<matmul::Packed*>(packed));
}

matmul::Kernel MatmulNodes::kernel_of(const ggml_tensor* weight, std::int64_t n) const {
  return matmul::kernel_for(plan_.method, weight->type, weight->ne[0], weights_.packed(weight) != nullptr,
                            plan_.batch_invariant || n <= matmul::kFewColumns);
}

bool MatmulNodes::is_adapted(const ggml_tensor* weight) const {
  return std::any_of(plan_.loras.begin(), plan_.loras.end(), [&](const Lora& lora) { return lora.pair(weight); });
}

ggml_tensor* MatmulNodes::multiply(const Linear& linear, const Columns& x, ggml_tensor* plus) {
  if (!is_adapted(linear.weight)) {
    if (ggml_tensor* y = packed_product({&linear, 1}, x, plus)) return y;
  }
  ggml_context* ctx = graph_.context();
  ggml_tensor* y = adapted(linear.weight, x.values);
  if (linear.bias) y = ggml_add(ctx, y, linear.bias);
  return plus ? ggml_add(ctx, plus, y) : y;
}

std::vector<ggml_tensor*> MatmulNodes::multiply(std::span<const Linear> linears, const Columns& x) {
  std::vector<ggml_tensor*> products;
  const bool any_adapted =
      std::any_of(linears.begin(), linears.end(), [&](const Linear& l) { return is_adapted(l.weight); });
  ggml_tensor* all = any_adapted ? nullptr : packed_product(linears, x, nullptr);
  std::size_t from = 0;
  for (const Linear& linear : linears) {
    const std::int64_t n_out = linear.weight->ne[1];
    products.push_back(all ? ggml_view_2d(graph_.context(), all, n_out, all->ne[1], all->nb[1], from)
                           : multiply(linear, x));
    from += (std::size_t)n_out * sizeof(float);
  }
  return products;
}

ggml_tensor* MatmulNodes::packed_product(std::span<const Linear> linears, const Columns& x, ggml_tensor* plus) {
  const std::int64_t n = x.values->ne[1];
  for (const Linear& linear : linears) {
    if (kernel_of(linear.weight, n) != Kernel::kInt8Packed) return nullptr;
  }
  auto& product = graph_.keep<PackedProduct>();
  if (last_packed_) last_packed_->next = &product;
  last_packed_ = &product;
  for (const Linear& linear : linears) {
    product.parts.push_back({weights_.packed(linear.weight), linear.bias ? (const float*)linear.bias->data : nullptr});
  }
  if (x.of) product.norm = {(const float*)x.weight->data, x.epsilon};
  return packed_product_node(graph_, product, x.of ? x.of : x.values, plus, scratch(product.scratch_bytes()));
}

ggml_tensor* MatmulNodes::adapted(ggml_tensor* weight, ggml_tensor* x) {
  ggml_context* ctx = graph_.context();
  ggml_tensor* y = product(weight, x);
  for (const Lora& lora : plan_.loras) {
    const Lora::Pair* pair = lora.pair(weight);
    if (!pair) continue;
    y = ggml_add(ctx, y, ggml_scale(ctx, by_ggml(pair->b, by_ggml(pair->a, x)), pair->scale));
  }
  return y;
}

ggml_tensor* MatmulNodes::by_ggml(ggml_tensor* weight, ggml_tensor* x) {
  ggml_context* ctx = graph_.context();
  const std::int64_t n = x->ne[1];
  if (!plan_.batch_invariant || n == 1) return ggml_mul_mat(ctx, weight, x);
  // In an order of ggml's own. Its kernel for AMX takes as many planes of weights as there are of columns, and reads
  // beyond the only one. What lies in no buffer is mapped from its file, in the file's order.
  if (weight->buffer && !ggml_backend_buffer_is_host(weight->buffer)) return one_by_one(weight, x, 0, n);
  // As planes of one column each: ggml then takes its one-column kernel for every plane.
  ggml_tensor* y = ggml_mul_mat(ctx, weight, ggml_reshape_3d(ctx, x, x->ne[0], 1, n));
  return ggml_reshape_2d(ctx, y, y->ne[0], n);
}

ggml_tensor* MatmulNodes::one_by_one(ggml_tensor* weight, ggml_tensor* x, std::int64_t first, std::int64_t n) {
  ggml_context* ctx = graph_.context();
  if (n == 1) {
    return ggml_mul_mat(ctx, weight, ggml_view_2d(ctx, x, x->ne[0], 1, x->nb[1], (std::size_t)first * x->nb[1]));
  }
  // Halves, so that a column is copied as often as they can be halved.
  return ggml_concat(ctx, one_by_one(weight, x, first, n / 2), one_by_one(weight, x, first + n / 2, n - n / 2), 1);
}

ggml_tensor* MatmulNodes::product(ggml_tensor* weight, ggml_tensor* x) {
  ggml_context* ctx = graph_.context();
  const std::int64_t n = x->ne[1];
  const Kernel kernel = kernel_of(weight, n);
  if (kernel == Kernel::kGgml) return by_ggml(weight, x);
  if (kernel == Kernel::kInt8Packed) {
    const Linear linear{weight, nullptr};
    return packed_product({&linear, 1}, {.values = x}, nullptr);
  }

  assert(ggml_is_contiguous(x) && ggml_is_contiguous(weight));
  Node& node = graph_.keep<Node>();
  node.packed = weights_.packed(weight);
  node.stored = matrix_of(weight);
  const auto make = [&](ggml_custom_op_t run, ggml_tensor* columns, ggml_tensor* scratch) {
    ggml_tensor* args[] = {columns, scratch};
    return ggml_custom_4d(ctx, GGML_TYPE_F32, weight->ne[1], n, 1, 1, args, 2, run, GGML_N_TASKS_MAX, &node);
  };
  switch (kernel) {
    case Kernel::kInt8Tiles:
      return make(multiply_int8_tiles, quantised(x), scratch(matmul::tile_bytes(node.n_in())));
    case Kernel::kBf16Tiles:
      node.pieces = matmul::pieces(plan_.method, weight->type);
      return make(multiply_bf16_tiles, in_bf16(x, node.pieces), scratch(bf16_scratch_bytes(node, n, plan_.threads)));
    default:
      return make(multiply_f32_tiles, x, scratch(f32_tile_bytes(node.n_in())));
  }
}

}  // namespace lacake
