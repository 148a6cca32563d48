// E5M2 code to sign and fixed point: value = (-1)^sign * magnitude * 2^-16; magnitude 0 if nan or infinite.
module e5m2_decode (
    input  wire  [ 7:0] code,
    output logic        sign,
    output logic [31:0] magnitude,
    output logic        infinite,
    output logic        nan
);
  logic [4:0] exponent;
  logic [2:0] significand;

  e5m2_unpack unpack (
      .code(code), .sign(sign), .exponent(exponent), .significand(significand), .infinite(infinite), .nan(nan));
  assign magnitude = infinite || nan ? 32'd0 : {29'd0, significand} << exponent;
endmodule
