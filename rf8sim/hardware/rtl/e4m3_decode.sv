// E4M3 code to sign and fixed point: value = (-1)^sign * magnitude * 2^-9. If nan, the rest means nothing.
module e4m3_decode (
    input  wire  [ 7:0] code,
    output logic        sign,
    output logic [17:0] magnitude,
    output logic        nan
);
  logic [3:0] exponent, significand;

  e4m3_unpack unpack (.code(code), .sign(sign), .exponent(exponent), .significand(significand), .nan(nan));
  assign magnitude = {14'd0, significand} << exponent;
endmodule
