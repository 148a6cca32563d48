// The exact product of two RF8 codes in fixed point: value = (-1)^sign * magnitude * 2^-38. Magnitude 0 if nan.
module rf8_multiply_exact (
    input  wire  [ 7:0] a,
    input  wire  [ 7:0] b,
    output logic        sign,
    output logic [39:0] magnitude,
    output logic        nan
);
  logic [9:0] significand;
  logic [4:0] exponent;

  rf8_product product (.a(a), .b(b), .sign(sign), .significand(significand), .exponent(exponent), .nan(nan));
  assign magnitude = {30'd0, significand} << exponent;
endmodule
