// Sigstore's and TUF's own JavaScript verifiers, applied to one package.
//   node verify.mjs PACKAGE     prints one JSON object: per tool "ok" or what it said
import { createHash, createPublicKey } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync, existsSync, mkdirSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";
import { Updater } from "tuf-js";

const pack = process.argv[2];
const targets = join(pack, "trust", "targets");
const target = (name) => readFileSync(join(targets, readdirSync(targets).find((f) => f.endsWith(`.${name}`))));

function releasedAt() {
  const folder = join(pack, "attestations");
  const name = readdirSync(folder).find((f) => f.startsWith("release."));
  const envelope = JSON.parse(readFileSync(join(folder, name)));
  return new Date(JSON.parse(Buffer.from(envelope.payload, "base64")).predicate.released_at);
}

function sigstore() {
  const keys = new Map();
  for (const actor of JSON.parse(target("actors.json")).actors) {
    const der = Buffer.from(actor.statement_spki, "base64");
    keys.set(createHash("sha256").update(der).digest("hex"), createPublicKey({ key: der, format: "der", type: "spki" }));
  }
  const tlogs = [];
  for (const line of target("tlog-policy.txt").toString().split("\n")) {
    if (!line.startsWith("log ")) continue;
    const [name, id] = line.split(" ")[1].split("+");
    const material = Buffer.from(line.split(" ")[1].slice(name.length + id.length + 2), "base64");
    const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), material.subarray(1)]);
    const keyId = Buffer.from(id, "hex");
    tlogs.push({ baseUrl: `https://${name}`, hashAlgorithm: 1, publicKey: { rawBytes: spki, keyDetails: 7 }, logId: { keyId }, checkpointKeyId: { keyId } });
  }
  const root = { certificateAuthorities: [], timestampAuthorities: [], ctlogs: [], tlogs };
  const find = (hint) => {
    if (!keys.has(hint)) throw new Error(`no key ${hint}`);
    return { publicKey: keys.get(hint), validFor: () => true };
  };
  const verifier = new Verifier(toTrustMaterial(root, find), { tlogThreshold: 1, timestampThreshold: 0, ctlogThreshold: 0 });
  const folder = join(pack, "bundles");
  let count = 0;
  for (const name of readdirSync(folder)) {
    verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(join(folder, name))))));
    count += 1;
  }
  if (count === 0) throw new Error("no bundle");
  // The verifier does look: a bundle with one byte more in its payload is refused.
  const first = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0])));
  const altered = Buffer.concat([Buffer.from(first.dsseEnvelope.payload, "base64"), Buffer.from(" ")]);
  first.dsseEnvelope.payload = altered.toString("base64");
  try {
    verifier.verify(toSignedEntity(bundleFromJSON(first)));
  } catch {
    return;
  }
  throw new Error("an altered bundle was accepted");
}

async function tuf() {
  const server = createServer((request, response) => {
    const path = join(pack, "trust", decodeURIComponent(request.url));
    if (!existsSync(path)) return response.writeHead(404).end();
    return response.writeHead(200).end(readFileSync(path));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const base = `http://127.0.0.1:${server.address().port}`;
  const folder = mkdtempSync(join(tmpdir(), "tuf-"));
  try {
    mkdirSync(join(folder, "targets"));
    writeFileSync(join(folder, "root.json"), readFileSync(join(pack, "trust", "metadata", "1.root.json")));
    const updater = new Updater({
      metadataDir: folder,
      targetDir: join(folder, "targets"),
      metadataBaseUrl: `${base}/metadata`,
      targetBaseUrl: `${base}/targets`,
      config: { fetchRetries: 0 },
    });
    updater.trustedSet.referenceTime = releasedAt();
    await updater.refresh();
    for (const name of ["actors.json", "status.json", "release-policy.json", "tlog-policy.txt"]) {
      const info = await updater.getTargetInfo(name);
      if (!info) throw new Error(`no target ${name}`);
      await updater.downloadTarget(info, join(folder, "targets", name));
    }
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
}

const found = {};
for (const [name, tool] of Object.entries({ "@sigstore/verify": sigstore, "tuf-js": tuf })) {
  try {
    await tool();
    found[name] = "ok";
  } catch (error) {
    found[name] = `${error.name}: ${error.message}${error.cause ? ` (${error.cause.message})` : ""}`.slice(0, 900);
  }
}
console.log(JSON.stringify(found));
