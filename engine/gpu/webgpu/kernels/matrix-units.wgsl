// Matrix units: fragments of UNIT_M columns of inputs, UNIT_N rows of weights and UNIT_K elements, spread over a subgroup in a way that only the
// driver knows. Places and pitches count 16 bytes. The only file that spells the experimental extension.
alias Left = subgroup_matrix_left<f16, UNIT_K, UNIT_M>;
alias Right = subgroup_matrix_right<f16, UNIT_N, UNIT_K>;
alias Sums = subgroup_matrix_result<f32, UNIT_N, UNIT_M>;
fn loadLeft(place: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&stage, place, PITCH);
}
fn loadRight(place: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&stage, place, PITCH);
}
//#if DIRECT
fn loadLeftDirect(place: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&x, place, X_PLACES);
}
//#end
fn multiplyAdd(left: Left, right: Right, sums: Sums) -> Sums {
  return subgroupMatrixMultiplyAccumulate(left, right, sums);
}
fn storeSums(place: u32, sums: Sums) {
  subgroupMatrixStore<row_major>(&stage, place, sums, STRIP_PITCH);
}
