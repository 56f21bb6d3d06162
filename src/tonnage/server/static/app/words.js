// What an error means for somebody in front of the page: its own words, and a way out.
import { number } from "./format.js";

// By the server's code, else by the status; where neither says enough the server's words are shown: they say which
// model is in use, for example.
const CODES = {
  context_length_exceeded: () =>
    "The conversation is longer than the model can read. Begin a new one, or edit an earlier message to shorten it.",
  no_chat_template: (error, model) =>
    `${model} is a base model: it continues text and was not taught to chat. Choose another model above, or ask the server's operator for one that ends in "instruct" or "it".`,
  rate_limit_exceeded: (error) => `The server has as much to do as it takes on.${wait(error)}`,
  never_fits: () => "The server has too little memory for a conversation of this length. Begin a new one.",
  busy: (error) => `The server has no room for more at the moment.${wait(error)}`,
  deadline_exceeded: () => "The answer took longer than the server allows. Ask again, or for less.",
  unknown_host: () => "The server takes requests of its own machine alone. Open the page there, by localhost.",
  request_too_large: () => "The conversation is larger than the server takes in one piece. Begin a new one.",
};
const STATUSES = {
  0: () => "The server does not answer. It may have been stopped; the page goes on when it is back.",
  401: () => "The server wants a key. Enter it under Settings.",
  403: () => "The server does not let this page in.",
  429: CODES.rate_limit_exceeded,
  500: () => "The server has failed at this. Ask again; if it fails again, its log says why.",
  504: CODES.deadline_exceeded,
};

function wait(error) {
  return error.retryAfterS ? ` Try again in ${number(error.retryAfterS)} s.` : " Try again soon.";
}

export function wordsOf(error, model = "The model") {
  const words = CODES[error.code] ?? STATUSES[error.status];
  return words ? words(error, model) : error.message;
}
