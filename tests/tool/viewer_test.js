// SPDX-License-Identifier: MIT
//
// The half of the viewer that needs no browser: unpacking, where runs lie, what is under a place,
// search. Usage: node viewer_test.js viewer.js page.html
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const viewer = require(require("node:path").resolve(process.argv[2]));

const page = fs.readFileSync(process.argv[3], "utf8");
const json = page.split('id="mmkit-data">')[1].split("</script>")[0];
const picture = viewer.decode(JSON.parse(json));

// Every map of a real page: each object is found where it is drawn, and slack where none is.
let maps = 0;
for (const map of picture.sections.filter(section => section.kind === "map")) {
  ++maps;
  const layout = viewer.layOut(map);
  assert.equal(layout.first[map.run_pages.length], map.number.length);
  for (let object = 0; object < map.number.length; ++object) {
    const run = viewer.runOf(layout, object);
    assert.ok(object >= layout.first[run] && object < layout.first[run + 1]);
    const x = layout.x[run] + (map.begin[object] + map.size[object] / 2) / 4096 * 40, y = layout.row[run] * 12 + 5;
    const hit = viewer.hitOf(map, layout, x, y);
    assert.equal(hit.object, object);
    assert.equal(hit.run, run);
    assert.ok(viewer.describe(map, layout, hit).includes(` ${viewer.count(map.size[object])} bytes at `));
    assert.deepEqual(viewer.find(map, map.number[object]), [object]);
  }
  for (let run = 0; run < map.run_pages.length; ++run) {
    const last = layout.first[run + 1] - 1;
    if (last < layout.first[run] || map.begin[last] + map.size[last] + 8 > map.run_pages[run] * 4096) continue;
    const x = layout.x[run] + (map.begin[last] + map.size[last] + 4) / 4096 * 40;
    const hit = viewer.hitOf(map, layout, x, layout.row[run] * 12 + 5);
    assert.equal(hit.object, null);
    assert.ok(viewer.describe(map, layout, hit).startsWith("slack at byte "));
  }
  assert.equal(viewer.hitOf(map, layout, -1, 5), null);
  assert.equal(viewer.hitOf(map, layout, 5, -1), null);
  assert.equal(viewer.hitOf(map, layout, layout.width + 1, 5), null);
  assert.equal(viewer.hitOf(map, layout, 5, layout.height + 1), null);
  assert.deepEqual(viewer.find(map, 4294967295), []);
}
assert.ok(maps > 0, "the page has maps");

assert.deepEqual(viewer.ticks(0, 10, 5), [0, 2, 4, 6, 8, 10]);
assert.deepEqual(viewer.ticks(3, 3, 5), [3]);
assert.equal(viewer.count(1234567), "1,234,567");
assert.equal(viewer.figure(0.123456), "0.1235");
assert.notEqual(viewer.colourOf(0), viewer.colourOf(1e-9));
assert.notEqual(viewer.colourOf(1), viewer.colourOf(1 - 1e-9));
assert.equal(viewer.lastAtMost([1, 3, 5], 4, 0, 3), 1);
assert.equal(viewer.lastAtMost([1, 3, 5], 0, 0, 3), -1);

// A million objects are unpacked and laid out in well under two seconds.
const objects = 1000000, runs = objects / 32, bytes = array => Buffer.from(array.buffer).toString("base64");
const million = {run_pages: {type: "u32", data: bytes(new Uint32Array(runs).fill(16))},
                 run_objects: {type: "u32", data: bytes(new Uint32Array(runs).fill(32))},
                 number: {type: "u32", data: bytes(Uint32Array.from({length: objects}, (_, i) => i))},
                 begin: {type: "u16", data: bytes(Uint16Array.from({length: objects}, (_, i) => i % 32 * 2048))},
                 size: {type: "u16", data: bytes(new Uint16Array(objects).fill(1300))}};
const start = process.cpuUsage();
const map = viewer.decode(million), layout = viewer.layOut(map);
const used = process.cpuUsage(start);
assert.equal(layout.first[runs], objects);
assert.deepEqual(viewer.find(map, 777777), [777777]);
assert.ok(used.user + used.system < 2e6, `took ${used.user + used.system} us`);
console.log(`ok: ${maps} maps, a million objects in ${Math.round((used.user + used.system) / 1000)} ms`);
