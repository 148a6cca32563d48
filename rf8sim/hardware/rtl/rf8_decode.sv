// RF8 code to sign and fixed point: value = (-1)^sign * magnitude * 2^-19. Magnitude is 0 for zero and NaN.
module rf8_decode (
    input  wire  [ 7:0] code,
    output logic        sign,
    output logic [19:0] magnitude,
    output logic        nan
);
  logic [3:0] exponent;
  logic [4:0] significand;

  rf8_unpack unpack (.code(code), .sign(sign), .exponent(exponent), .significand(significand), .nan(nan));
  assign magnitude = {15'd0, significand} << exponent;
endmodule
