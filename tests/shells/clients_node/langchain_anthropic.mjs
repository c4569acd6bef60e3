// `ChatAnthropic` of `@langchain/anthropic`. It reads the input only from `message_start`, so that is told as well.
import { ask } from "./langchain.mjs";
import { connection, load, run, TOOLS } from "./run.mjs";

const { ChatAnthropic } = load("@langchain/anthropic");

const tools = TOOLS.map(({ schema, ...tool }) => ({ ...tool, input_schema: schema }));

// The usage in a stream's head, as it came over the wire.
function headOf(text) {
  const line = text.split("\n").find((said) => said.startsWith('data: {"type":"message_start"'));
  return line === undefined ? null : JSON.parse(line.slice("data: ".length)).message.usage;
}

await run(async (cell, heard) => {
  const { apiKey, baseURL } = connection(cell);
  let wire = null;
  const listening = async (...asked) => {
    const response = await fetch(...asked);
    wire = response.clone().text();
    wire.catch(() => {}); // a cut body is the client's to tell
    return response;
  };
  const chat = new ChatAnthropic({
    model: cell.model,
    apiKey,
    anthropicApiUrl: baseURL.replace(/\/v1$/, ""),
    clientOptions: { fetch: listening },
    maxRetries: 0,
    maxTokens: 1024,
    ...(cell.trouble === "field" ? { stopSequences: 5 } : {}),
  });
  await ask(cell.tools ? chat.bindTools(tools) : chat, cell, heard);
  if (cell.way === "stream") heard.head = headOf(await wire);
});
