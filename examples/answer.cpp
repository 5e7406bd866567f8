// The smallest whole program: answers one question while every layer keeps about 256 entries of its KV cache.
//
//     answer MODEL.gguf "Why is the sky blue?"
#include <lacake/engine.h>
#include <lacake/error.h>
#include <lacake/model.h>

#include <algorithm>
#include <iostream>

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: answer MODEL QUESTION\n";
    return 2;
  }
  try {
    const lacake::Model model(argv[1]);
    const lacake::Message question{.role = "user", .content = argv[2]};
    // The template brings its own special tokens, so none are added.
    const auto prompt = model.tokenize(model.chat_text({&question, 1}, true), true, false);

    lacake::Engine engine(model, {});
    const auto session = engine.open({.policy = lacake::PolicySpec::parse("lacache"),
                                      .budget = lacake::Budget::parse("256"),
                                      .prompt_tokens = prompt.size()});
    session->prefill(prompt);
    for (int n = 0; n < 64; ++n) {
      const auto logits = session->logits();
      const auto likeliest = std::max_element(logits.begin(), logits.end()) - logits.begin();
      const auto token = static_cast<lacake::Token>(likeliest);
      if (model.is_end(token)) break;
      std::cout << model.piece(token) << std::flush;
      session->step(token);
    }
    std::cout << '\n';
  } catch (const lacake::Error& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
