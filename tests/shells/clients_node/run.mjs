// What every program of this folder has in common. A program is run as
//   node PROGRAM.mjs BASE_URL < ORDER
// where ORDER is one JSON object: {"modules": DIRECTORY, "secret": KEY, "cells": [CELL, ...]} and a CELL is
//   {"name", "model", "way": "whole" | "stream" | "helper", "tools": BOOLEAN, "trouble": "" | "field" | "key" | "size",
//    "door": NAME, "base_url": URL, "fields": {...}}, of which the last three may be absent.
// For each cell it prints one line of JSON: what the client heard, as the client says it. Nothing is judged here; the
// test does that. What came before an error is told beside the error.
import { createRequire } from "node:module";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const order = JSON.parse(await text(process.stdin));

// The modules lie elsewhere than this file, and `import` looks only beside it.
export const load = createRequire(join(order.modules, "here.cjs"));

export const QUESTION = "When does the tide turn?";
export const TOOLS = [
  {
    name: "tide",
    description: "The hours of high and low water in a port.",
    schema: {
      type: "object",
      properties: { port: { type: "string" }, hour: { type: "integer" } },
      required: ["port"],
      additionalProperties: false,
    },
  },
  {
    name: "boats",
    description: "The boats that are out.",
    schema: { type: "object", properties: {}, additionalProperties: false },
  },
];

// What the client is made with, for a cell.
export function connection(cell) {
  return {
    baseURL: cell.base_url ?? process.argv[2],
    apiKey: cell.trouble === "key" ? "sk-nobody-0123456789" : order.secret,
  };
}

// What is asked: longer than the gateway takes, where that is the trouble.
export function question(cell) {
  return cell.trouble === "size" ? QUESTION.repeat(8000) : QUESTION;
}

function told(error) {
  return { name: error.constructor.name, status: error.status ?? error.statusCode ?? null, message: error.message };
}

// Ask every cell in turn; `ask(cell, heard)` writes into `heard` what it hears, as it hears it.
export async function run(ask) {
  for (const cell of order.cells) {
    const heard = { name: cell.name, text: "", reasoning: "", calls: [], usages: [] };
    try {
      await ask(cell, heard);
    } catch (error) {
      heard.error = told(error);
    }
    process.stdout.write(JSON.stringify(heard) + "\n");
  }
}
