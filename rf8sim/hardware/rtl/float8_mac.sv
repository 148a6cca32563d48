// A running float32 sum of products of E4M3 or E5M2 codes, each step rounded to nearest even as float8_fma does. Clear
// begins a new sum, with this product if valid.
module float8_mac #(
    parameter integer A_E5M2 = 0,
    parameter integer B_E5M2 = 0
) (
    input  wire         clk,
    input  wire         clear,
    input  wire         valid,
    input  wire  [ 7:0] a,
    input  wire  [ 7:0] b,
    output logic [31:0] sum
);
  logic [31:0] result;
  float8_fma #(.A_E5M2(A_E5M2), .B_E5M2(B_E5M2)) fma (
      .a(a), .b(b), .c(clear ? 32'd0 : sum), .result(result));

  always_ff @(posedge clk) begin
    if (valid) sum <= result;
    else if (clear) sum <= 32'd0;
  end
endmodule
