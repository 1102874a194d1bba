// Reads a SEG by dcmjs. usage: node read.js DCMJS.js OBJECT.dcm SLICES.json OUT
// SLICES: series, rows, columns and cosines of the source; and for each slice its UID, and its frame or null. OUT gets segment numbers, two
// bytes a voxel, slices x rows x columns.
const fs = require('fs');
const [library, path, slices, out] = process.argv.slice(2);
console.warn = console.log = () => {}; // what it says on the way
const { adapters } = require(library);
const source = JSON.parse(fs.readFileSync(slices));
const ids = source.slices.map(({ frame }, index) => `slice:${index}` + (frame ? `?frame=${frame - 1}` : ''));
const modules = {
  generalSeriesModule: () => ({ seriesInstanceUID: source.series }),
  imagePlaneModule: () => ({
    rows: source.rows,
    columns: source.columns,
    rowCosines: source.cosines.slice(0, 3),
    columnCosines: source.cosines.slice(3),
  }),
  imagePixelModule: () => ({ rows: source.rows, columns: source.columns }),
  sopCommonModule: id => ({ sopInstanceUID: source.slices[ids.indexOf(id)].uid }),
};
const file = fs.readFileSync(path);
const bytes = file.buffer.slice(file.byteOffset, file.byteOffset + file.length);
const read = adapters.Cornerstone.Segmentation.generateToolState(ids, bytes, { get: (kind, id) => modules[kind]?.(id) });
fs.writeFileSync(out, Buffer.from(read.labelmapBufferArray[0]));
