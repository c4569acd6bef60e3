// What LangChain.js hears through a gateway. Reads one JSON object from standard input:
//   {"modules": DIRECTORY, "base_url": URL, "asks": [{"ticket", "model", "fields", "path": "invoke" | "stream"}, ...]}
// and writes a JSON list: what each ask heard. Nothing is judged here; the test does that.
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const given = JSON.parse(await text(process.stdin));
const require = createRequire(join(given.modules, "here.js"));
const { ChatOpenAI } = require("@langchain/openai");

async function heard({ ticket, model, fields, path }) {
  const chat = new ChatOpenAI({
    model,
    user: ticket,
    apiKey: "sk-any",
    maxRetries: 0,
    configuration: { baseURL: given.base_url },
    ...fields,
  });
  const pieces = [];
  if (path === "invoke") pieces.push(await chat.invoke("Good morning"));
  else for await (const piece of await chat.stream("Good morning")) pieces.push(piece);
  const whole = pieces.reduce((before, piece) => before.concat(piece));
  return {
    text: whole.text,
    calls: (whole.tool_calls ?? []).map(({ name, args }) => ({ name, args })),
    reasoning: whole.additional_kwargs.reasoning_content ?? null,
    metadata: Object.keys(whole.response_metadata),
    usage: whole.usage_metadata ?? null,
    told: pieces.filter((piece) => piece.usage_metadata).length,
  };
}

const answers = [];
for (const ask of given.asks) answers.push(await heard(ask));
process.stdout.write(JSON.stringify(answers));
