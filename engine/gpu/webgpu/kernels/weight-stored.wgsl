// What one unit of a row is stored as: sixteen bytes, eight of 2:4 sparse ones, or the BITS words of 32 codes of other widths.
//#if INT_ANY
alias Stored = array<u32, BITS>;
//#else
//#if SPARSE
alias Stored = vec2<u32>;
//#else
alias Stored = vec4<u32>;
//#end
//#end
