// Units of a row and their scale groups, where the shape is compiled in.
//#if SPARSE
fn unitAt(row: u32, unit: u32) -> SparseUnit {
  return SparseUnit(values[row * UNITS + unit], positionsOf(row, unit));
}
//#else
fn unitAt(row: u32, unit: u32) -> Stored {
  return values[row * UNITS + unit];
}
//#end

//#if SPANS
// Scale group of element `inside` of a unit.
fn groupOf(unit: u32, inside: u32) -> u32 {
  return min((unit * UNIT_ELEMENTS + inside) / GROUP_SIZE, GROUPS - 1u);
}
//#end
