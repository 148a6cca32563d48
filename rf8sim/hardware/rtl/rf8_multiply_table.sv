// The product of two RF8 codes as an RF8 code, looked up: the reference form of rf8_multiply. Signs and NaN are apart;
// the table has an entry for each two magnitudes, {NaN, magnitude}, and is generated with one rounding and overflow.
module rf8_multiply_table #(
    parameter FILE = "rf8_multiply.mem"
) (
    input  wire  [7:0] a,
    input  wire  [7:0] b,
    output logic [7:0] code
);
  logic [7:0] entries[0:16383];
  initial $readmemh(FILE, entries);

  wire [7:0] entry = entries[{a[6:0], b[6:0]}];
  wire nan = a == 8'h80 || b == 8'h80 || entry[7];
  wire zero = entry[6:0] == 7'd0;
  assign code = nan ? 8'h80 : {(a[7] ^ b[7]) && !zero, entry[6:0]};
endmodule
