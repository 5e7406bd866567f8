#include "graph/packed_product.h"

#include <algorithm>

#include "matmul/columns.h"
#include "matmul/int8.h"

namespace lacake {
namespace {

using matmul::kTileRows;

// A column normed and in its 8-bit form.
//   normed  [n_in] f32, scratch
void prepare(const PackedProduct& product, const float* x, float* normed, std::byte* to) {
  if (product.norm.weight) {
    matmul::norm_column(x, product.norm.weight, product.norm.epsilon, product.n_in(), normed);
    x = normed;
  }
  matmul::quantise_column(x, product.n_in(), to);
}

// Several columns, divided among the threads.
void prepare_all(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const auto& product = *(const PackedProduct*)userdata;
  const ggml_tensor* x = dst->src[0];
  for (std::int64_t c = ith; c < x->ne[1]; c += nth) {
    prepare(product, (const float*)((const char*)x->data + c * (std::int64_t)x->nb[1]),
            (float*)scratch_of(dst->src[1], ith), (std::byte*)dst->data + c * (std::int64_t)dst->nb[1]);
  }
}

// Rows begin .. end - 1 of the result's columns: y = plus + (y + bias).
void add(const ggml_tensor* dst, std::size_t begin, std::size_t end, const float* bias, const ggml_tensor* plus) {
  for (std::int64_t c = 0; c < dst->ne[1]; ++c) {
    float* y = (float*)((char*)dst->data + c * (std::int64_t)dst->nb[1]);
    if (bias) {
      for (std::size_t i = begin; i < end; ++i) y[i] += bias[i - begin];
    }
    if (!plus) continue;
    const auto* x = (const float*)((const char*)plus->data + c * (std::int64_t)plus->nb[1]);
    for (std::size_t i = begin; i < end; ++i) y[i] = x[i] + y[i];
  }
}

// A part's tiles, and where its rows begin in the result.
void multiply_tiles(const PackedProduct::Part& part, matmul::TileRange tiles, std::size_t row, const std::byte* columns,
                    const ggml_tensor* plus, ggml_tensor* dst) {
  matmul::multiply_packed(*part.matrix, tiles, columns, (std::size_t)dst->ne[1], (float*)dst->data + row,
                          (std::size_t)dst->ne[0]);
  const std::size_t begin = tiles.first * kTileRows, end = std::min(tiles.last * kTileRows, part.matrix->n_out());
  if (part.bias || plus) add(dst, row + begin, row + end, part.bias ? part.bias + begin : nullptr, plus);
}

// How tiles are divided: each thread begins with a long run of its own, because memory is read best in long streams;
// a quarter is left to whoever is done first, because threads never run alike.
class Cut {
 public:
  Cut(std::size_t n_tiles, int n_threads) : n_threads_((std::size_t)n_threads) {
    constexpr std::size_t kLongest = 32;
    own_ = n_tiles * 3 / 4 / n_threads_;
    rest_ = n_tiles - own_ * n_threads_;
    n_items_ = std::min(rest_, (rest_ + n_threads_ * kLongest - 1) / (n_threads_ * kLongest) * n_threads_);
  }
  matmul::TileRange own(int thread) const { return {(std::size_t)thread * own_, ((std::size_t)thread + 1) * own_}; }
  // What is left, in items of about as many tiles.
  std::size_t n_items() const { return n_items_; }
  matmul::TileRange item(std::size_t i) const { return {begin(i), begin(i + 1)}; }

 private:
  std::size_t begin(std::size_t i) const {
    return own_ * n_threads_ + i * (rest_ / n_items_) + std::min(i, rest_ % n_items_);
  }

  std::size_t n_threads_, own_ = 0, rest_ = 0, n_items_ = 0;
};

// Calls for the weights that a thread reads first of a product, a few lines at a time, while it waits for something.
class Ahead {
 public:
  Ahead(const PackedProduct* product, int thread, int n_threads) {
    if (!product) return;
    std::size_t tile = Cut(product->n_tiles(), n_threads).own(thread).first;
    for (const PackedProduct::Part& part : product->parts) {
      const std::size_t n = part.matrix->n_tiles();
      if (tile < n) {
        at_ = part.matrix->tile(tile);
        end_ = std::min(at_ + kMost, part.matrix->tile(0) + part.matrix->bytes());
        return;
      }
      tile -= n;
    }
  }
  // False where there is nothing more to call for.
  bool bring() {
    for (std::size_t i = 0; i < kAtOnce && at_ < end_; ++i, at_ += kLine) __builtin_prefetch(at_, 0, kIntoL2);
    return at_ < end_;
  }
  void bring_first() {
    for (std::size_t i = 0; i < kFirst / kLine / kAtOnce && bring(); ++i) {
    }
  }

 private:
  static constexpr std::size_t kLine = 64, kAtOnce = 4;
  static constexpr std::size_t kFirst = 4096;     // until a stream is under way
  static constexpr std::size_t kMost = 64 << 10;  // an eighth of the smallest L2 cache
  static constexpr int kIntoL2 = 2;

  const std::byte *at_ = nullptr, *end_ = nullptr;
};

// Tiles of all parts, counted through.
void multiply(const PackedProduct& product, matmul::TileRange tiles, const std::byte* columns, const ggml_tensor* plus,
              ggml_tensor* dst) {
  std::size_t before = 0, row = 0;  // tiles and rows of the parts before
  for (const PackedProduct::Part& part : product.parts) {
    const std::size_t n = part.matrix->n_tiles();
    const matmul::TileRange own{std::clamp(tiles.first, before, before + n) - before,
                                std::clamp(tiles.last, before, before + n) - before};
    if (own.first < own.last) multiply_tiles(part, own, row, columns, plus, dst);
    before += n;
    row += part.matrix->n_out();
  }
}

// Arguments: columns, scratch, what is added.
void multiply_all(ggml_tensor* dst, int ith, int nth, void* userdata) {
  auto& product = *(PackedProduct*)userdata;
  const ggml_tensor *x = dst->src[0], *plus = dst->src[2];
  const auto* columns = (const std::byte*)x->data;
  const Cut cut(product.n_tiles(), nth);
  if (x->type == GGML_TYPE_F32) {  // a single one
    Ahead(&product, ith, nth).bring_first();
    std::byte* own = scratch_of(dst->src[1], ith);
    prepare(product, (const float*)x->data, (float*)(own + matmul::column_bytes(product.n_in())), own);
    columns = own;
  }
  multiply(product, cut.own(ith), columns, plus, dst);
  Ahead next(product.next, ith, nth);
  product.items.take(
      cut.n_items(), nth, [&](std::size_t i) { multiply(product, cut.item(i), columns, plus, dst); },
      [&] { return next.bring(); });
}

}  // namespace

std::size_t PackedProduct::n_out() const {
  std::size_t n = 0;
  for (const Part& part : parts) n += part.matrix->n_out();
  return n;
}

std::size_t PackedProduct::n_tiles() const {
  std::size_t n = 0;
  for (const Part& part : parts) n += part.matrix->n_tiles();
  return n;
}

std::size_t PackedProduct::scratch_bytes() const { return matmul::column_bytes(n_in()) + n_in() * sizeof(float); }

ggml_tensor* packed_product_node(Graph& graph, PackedProduct& product, ggml_tensor* x, ggml_tensor* plus,
                                 ggml_tensor* scratch) {
  ggml_context* ctx = graph.context();
  ggml_tensor* args[] = {x, scratch, plus};
  if (x->ne[1] > 1) {
    args[0] = ggml_custom_4d(ctx, GGML_TYPE_I8, (std::int64_t)matmul::column_bytes(product.n_in()), x->ne[1], 1, 1,
                             args, 2, prepare_all, GGML_N_TASKS_MAX, &product);
  }
  return ggml_custom_4d(ctx, GGML_TYPE_F32, (std::int64_t)product.n_out(), x->ne[1], 1, 1, args, plus ? 3 : 2,
                        multiply_all, GGML_N_TASKS_MAX, &product);
}

}  // namespace lacake
