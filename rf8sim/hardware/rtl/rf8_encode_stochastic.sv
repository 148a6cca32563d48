// Fixed point to RF8, stochastic: of the share p of the way to the next value the first RANDOM_BITS bits are added to
// as many random bits, and the carry goes up. That is up with probability floor(p 2^k) / 2^k, k = RANDOM_BITS: a bias
// toward zero of less than 2^-k of a gap. Bits cut off below the magnitude count as zeros.
module rf8_encode_stochastic #(
    parameter integer WIDTH = 40,        // 2 to 120
    parameter integer FRACTION = 38,     // 0 to 120
    parameter integer RANDOM_BITS = 8,   // 1 to 32
    parameter NAN_OVERFLOW = 0
) (
    input  wire                    sign,
    input  wire  [      WIDTH-1:0] magnitude,
    input  wire                    nan,
    input  wire  [RANDOM_BITS-1:0] random,
    output logic [            7:0] code
);
  localparam integer K = RANDOM_BITS;
  localparam integer TOP = WIDTH + K + 3;  // place of the leading one, with enough bits added below
  localparam integer UP = FRACTION < 18 ? 18 - FRACTION : 0;
  localparam integer DOWN = FRACTION > 18 ? FRACTION - 18 : 0;

  logic signed [8:0] octave;
  logic [WIDTH-1:0] significand;
  rf8_normalize #(.WIDTH(WIDTH), .FRACTION(FRACTION)) normalize (
      .magnitude(magnitude), .octave(octave), .significand(significand));

  wire [TOP:0] s = {significand, {(K + 4) {1'b0}}};
  wire [3:0] fraction = s[TOP-1-:4];  // in units of 1/16
  logic [2:0] below;  // place of the value below
  logic [K-1:0] share;  // of the way from there to the next

  // A gap is 1/16, 1/8 or 1/4 of the octave's start, and begins at a multiple of itself.
  wire [K-1:0] of_sixteenth = s[TOP-5-:K];
  wire [K-1:0] of_eighth = s[TOP-4-:K];
  wire [K-1:0] of_quarter = s[TOP-3-:K];
  always_comb begin
    case (fraction)
      4'd0: {below, share} = {3'd0, of_sixteenth};
      4'd1: {below, share} = {3'd1, of_sixteenth};
      4'd2, 4'd3: {below, share} = {3'd2, of_eighth};
      4'd4, 4'd5, 4'd6, 4'd7: {below, share} = {3'd3, of_quarter};
      4'd8, 4'd9, 4'd10, 4'd11: {below, share} = {3'd4, of_quarter};
      4'd12, 4'd13: {below, share} = {3'd5, of_eighth};
      default: {below, share} = {3'd6, of_eighth};
    endcase
  end
  wire [K:0] total = {1'b0, share} + {1'b0, random};
  wire [2:0] place = below + {2'b00, total[K]};

  // Below the smallest value, 7 * 2^-18, the gap is no power of two. The same decision, with the division multiplied
  // out, is magnitude * 2^k >= (2^k - random) * 7 in units of 2^-18; what is below a unit does not matter.
  wire tiny = octave < -9'sd1 || (octave == -9'sd1 && fraction < 4'd12);
  wire [WIDTH+K+UP+2:0] shifted = {3'd0, magnitude, {(K + UP) {1'b0}}};
  wire [WIDTH+K+UP+2:0] units = shifted >> DOWN;
  wire [K+2:0] have = units[K+2:0];  // a tiny magnitude has no more bits
  wire [K+2:0] needed = {2'd0, {1'b1, {K{1'b0}}} - {1'b0, random}};
  wire tiny_up = have >= (needed << 3) - needed;

  rf8_pack #(.NAN_OVERFLOW(NAN_OVERFLOW)) pack (
      .sign(sign), .nan(nan), .zero(!s[TOP] || (tiny && !tiny_up)), .smallest(tiny && tiny_up),
      .octave(octave), .place(place), .code(code));
endmodule
