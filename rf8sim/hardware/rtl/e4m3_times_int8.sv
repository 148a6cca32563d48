// An E4M3 weight times an INT8 activation, exact: value = product * 2^-9, in two's complement. If nan, the product
// means nothing.
module e4m3_times_int8 (
    input  wire         [ 7:0] weight,
    input  wire  signed [ 7:0] activation,
    output logic signed [25:0] product,
    output logic               nan
);
  logic sign;
  logic [3:0] exponent, significand;

  e4m3_unpack unpack (.code(weight), .sign(sign), .exponent(exponent), .significand(significand), .nan(nan));
  wire signed [4:0] factor = $signed({1'b0, significand} ^ {5{sign}}) + $signed({4'd0, sign});
  wire signed [12:0] scaled = factor * activation;
  assign product = {{13{scaled[12]}}, scaled} <<< exponent;
endmodule
