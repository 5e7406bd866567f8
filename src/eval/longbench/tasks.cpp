// LongBench's tasks (Bai et al. 2023, github.com/THUDM/LongBench, MIT licence): the prompts are part of the protocol,
// word for word and with their misspellings.

#include "eval/longbench/longbench.h"
#include "eval/longbench/text_scores.h"

namespace lacake::eval {
namespace {

using Classes = std::vector<std::string>;

// Every score in one form: most need no classes.
template <double (*score)(std::string_view, std::string_view)>
double plain(std::string_view answer, std::string_view reference, const Classes&) {
  return score(answer, reference);
}

constexpr std::string_view kPassages =
    "Answer the question based on the given passages. Only give me the answer and do not output any other "
    "words.\n\nThe following are given passages.\n{context}\n\nAnswer the question based on the given passages. Only "
    "give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:";

}  // namespace

const std::vector<LongBenchTask>& longbench_tasks() {
  static const std::vector<LongBenchTask> tasks = {
      {"narrativeqa",
       "You are given a story, which can be either a novel or a movie script, and a question. Answer the question "
       "asconcisely as you can, using a single phrase if possible. Do not provide any explanation.\n\nStory: "
       "{context}\n\nNow, answer the question based on the story asconcisely as you can, using a single phrase if "
       "possible. Do not provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
       128, plain<qa_f1>, true, false, nullptr},
      {"qasper",
       "You are given a scientific article and a question. Answer the question as concisely as you can, using a single "
       "phrase or sentence if possible. If the question cannot be answered based on the information in the article, "
       "write \"unanswerable\". If the question is a yes/no question, answer \"yes\", \"no\", or \"unanswerable\". Do "
       "not provide any explanation.\n\nArticle: {context}\n\n Answer the question based on the above article as "
       "concisely as you can, using a single phrase or sentence if possible. If the question cannot be answered based "
       "on the information in the article, write \"unanswerable\". If the question is a yes/no question, answer "
       "\"yes\", \"no\", or \"unanswerable\". Do not provide any explanation.\n\nQuestion: {input}\n\nAnswer:",
       128, plain<qa_f1>, true, false, nullptr},
      {"multifieldqa_en",
       "Read the following text and answer briefly.\n\n{context}\n\nNow, answer the following question based on the "
       "above text, only give me the answer and do not output any other words.\n\nQuestion: {input}\nAnswer:",
       64, plain<qa_f1>, true, false, nullptr},
      {"multifieldqa_zh",
       "阅读以下文字并用中文简短回答：\n\n{context}"
       "\n\n现在请基于上面的文章回答下面的问题，只告诉我答案，不要输出任何其他字词。\n\n问题：{input}\n回答：",
       64, plain<qa_f1_zh>, true, false, nullptr},
      {"hotpotqa", kPassages, 32, plain<qa_f1>, true, false, nullptr},
      {"2wikimqa", kPassages, 32, plain<qa_f1>, true, false, nullptr},
      {"musique", kPassages, 32, plain<qa_f1>, true, false, nullptr},
      {"dureader",
       "请基于给定的文章回答下述问题。\n\n文章：{context}\n\n请基于上述文章回答下面的问题。\n\n问题：{input}\n回答：",
       128, plain<rouge_zh>, true, false, nullptr},
      {"gov_report",
       "You are given a report by a government agency. Write a one-page summary of the "
       "report.\n\nReport:\n{context}\n\nNow, write a one-page summary of the report.\n\nSummary:",
       512, plain<rouge>, true, false, nullptr},
      {"qmsum",
       "You are given a meeting transcript and a query containing a question or instruction. Answer the query in one "
       "or more sentences.\n\nTranscript:\n{context}\n\nNow, answer the query based on the above meeting transcript in "
       "one or more sentences.\n\nQuery: {input}\nAnswer:",
       512, plain<rouge>, true, false, nullptr},
      {"multi_news",
       "You are given several news passages. Write a one-page summary of all news. \n\nNews:\n{context}\n\nNow, write "
       "a one-page summary of all the news.\n\nSummary:",
       512, plain<rouge>, true, false, nullptr},
      {"vcsum", "下面有一段会议记录，请你阅读后，写一段总结，总结会议的内容。\n会议记录：\n{context}\n\n会议总结：",
       512, plain<rouge_zh>, true, false, nullptr},
      {"trec",
       "Please determine the type of the question below. Here are some examples of questions.\n\n{context}\n{input}",
       64, classification_score, false, true, nullptr},
      {"triviaqa",
       "Answer the question based on the given passage. Only give me the answer and do not output any other words. The "
       "following are some examples.\n\n{context}\n\n{input}",
       32, plain<qa_f1>, false, true, nullptr},
      {"samsum",
       "Summarize the dialogue into a few short sentences. The following are some examples.\n\n{context}\n\n{input}",
       128, plain<rouge>, false, true, nullptr},
      {"lsht", "请判断给定新闻的类别，下面是一些例子。\n\n{context}\n{input}", 64, classification_score, false, true,
       nullptr},
      {"passage_count",
       "There are some paragraphs below sourced from Wikipedia. Some of them may be duplicates. Please carefully read "
       "these paragraphs and determine how many unique paragraphs there are after removing duplicates. In other words, "
       "how many non-repeating paragraphs are there in total?\n\n{context}\n\nPlease enter the final count of unique "
       "paragraphs after removing duplicates. The output format should only contain the number, such as 1, 2, 3, and "
       "so on.\n\nThe final answer is: ",
       32, plain<count_score>, true, false, nullptr},
      {"passage_retrieval_en",
       "Here are 30 paragraphs from Wikipedia, along with an abstract. Please determine which paragraph the abstract "
       "is from.\n\n{context}\n\nThe following is an abstract.\n\n{input}\n\nPlease enter the number of the paragraph "
       "that the abstract is from. The answer format must be like \"Paragraph 1\", \"Paragraph 2\", etc.\n\nThe answer "
       "is: ",
       32, plain<retrieval_score>, true, false, "Paragraph "},
      {"passage_retrieval_zh",
       "以下是若干段落文字，以及其中一个段落的摘要。请确定给定的摘要出自哪一段。\n\n{context}\n\n下面是一个摘要\n\n{"
       "input}\n\n请输入摘要所属段落的编号。答案格式必须是\"段落1\"，\"段落2\"等格式\n\n答案是：",
       32, plain<retrieval_zh_score>, true, false, "段落"},
      {"lcc", "Please complete the code given below. \n{context}Next line of code:\n", 64, plain<code_similarity>,
       false, false, nullptr},
      {"repobench-p", "Please complete the code given below. \n{context}{input}Next line of code:\n", 64,
       plain<code_similarity>, false, false, nullptr},
  };
  return tasks;
}

std::vector<std::string> longbench_task_names() {
  std::vector<std::string> names;
  for (const LongBenchTask& task : longbench_tasks()) names.emplace_back(task.name);
  return names;
}

}  // namespace lacake::eval
