// Documents through llama.cpp, for weights_peer.py: `node weights_llama.mjs FOLDER MODEL.gguf ROWS TOKENS THREADS`, where FOLDER has
// node_modules/node-llama-cpp. Each line of standard input makes it embed all documents once; it answers with the milliseconds.
import {createInterface} from "node:readline";
import {join, resolve} from "node:path";
import {pathToFileURL} from "node:url";

const [folder, modelPath, ...numbers] = process.argv.slice(2);
const [rows, tokens, threads] = numbers.map(Number);
const library = join(resolve(folder), "node_modules/node-llama-cpp/dist/index.js");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(library));
const llama = await getLlama({build: "never", gpu: false, maxThreads: threads, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath});
// A document ends with a token that llama.cpp adds.
const size = tokens + 2;
const context = await model.createEmbeddingContext({contextSize: size, batchSize: size, threads});
let random = 1;
const token = () => 5 + (random = random * 48271 % 2147483647) % 10000;
const documents = Array.from({length: rows}, () => Array.from({length: tokens}, token));

for await (const _ of createInterface({input: process.stdin})) {
  const start = performance.now();
  for (const document of documents) await context.getEmbeddingFor(document);
  console.log(performance.now() - start);
}
