// The stochastic encoder with its own random bits: element n after `load` sees the low RANDOM_BITS of the n-th word of
// the LFSR, the seed being word 0. The code belongs to the inputs of the same clock.
module rf8_encode_lfsr #(
    parameter integer WIDTH = 40,
    parameter integer FRACTION = 38,
    parameter integer RANDOM_BITS = 8,
    parameter NAN_OVERFLOW = 0
) (
    input  wire              clk,
    input  wire              load,
    input  wire  [     31:0] seed,
    input  wire              valid,
    input  wire              sign,
    input  wire  [WIDTH-1:0] magnitude,
    input  wire              nan,
    output logic [      7:0] code
);
  logic [31:0] word;

  lfsr #(.STEPS(32)) source (.clk(clk), .load(load), .seed(seed), .advance(valid), .word(word));
  rf8_encode_stochastic #(
      .WIDTH(WIDTH), .FRACTION(FRACTION), .RANDOM_BITS(RANDOM_BITS), .NAN_OVERFLOW(NAN_OVERFLOW)
  ) encode (.sign(sign), .magnitude(magnitude), .nan(nan), .random(word[RANDOM_BITS-1:0]), .code(code));
endmodule
