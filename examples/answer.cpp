// The smallest whole program: answers one question while every layer keeps about 256 entries of its KV cache.
//
//     answer MODEL.gguf "Why is the sky blue?"
#include <lacake/engine.h>
#include <lacake/error.h>
#include <lacake/generation.h>
#include <lacake/model.h>

#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: answer MODEL QUESTION\n";
    return 2;
  }
  try {
    const lacake::Model model(argv[1]);
    const lacake::Message question{.role = "user", .content = argv[2]};
    const lacake::ChatPrompt prompt = model.chat({&question, 1});

    lacake::Engine engine(model, {});
    const auto session = engine.open({.policy = lacake::PolicySpec::parse("lacache"),
                                      .budget = lacake::Budget::parse("256"),
                                      .prompt_tokens = prompt.tokens.size()});
    lacake::GenerationOptions options{.limits = {.answer = 64}};
    options.sampling.temp = 0;  // always the likeliest token
    lacake::generate(model, engine, *session, prompt, options,
                     {.on_text = [](std::size_t, std::string_view text) { std::cout << text << std::flush; }});
    std::cout << '\n';
  } catch (const lacake::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
