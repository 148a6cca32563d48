// The exact product of two E4M3 codes in fixed point: value = (-1)^sign * magnitude * 2^-18. If nan, the rest means
// nothing.
module e4m3_multiply_exact (
    input  wire  [ 7:0] a,
    input  wire  [ 7:0] b,
    output logic        sign,
    output logic [35:0] magnitude,
    output logic        nan
);
  logic [7:0] significand;
  logic [4:0] exponent;

  e4m3_product product (.a(a), .b(b), .sign(sign), .significand(significand), .exponent(exponent), .nan(nan));
  assign magnitude = {28'd0, significand} << exponent;
endmodule
