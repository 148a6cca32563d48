// A normalized significand (top bit set; 0 for zero) to an E4M3 or E5M2 code, rounded once: the input is
// significand * 2^(exponent - (WIDTH - 1)). Sticky: it is larger than that by less than one unit.
// ROUNDING  0 nearest-even, 1 toward-zero, 2 stochastic: of the share of the way to the next value the first
//           RANDOM_BITS bits are added to as many random bits, and the carry goes up.
// OVERFLOW  what is beyond the largest value, and an infinity: 0 saturate, 1 propagate (E5M2: an infinity stays),
//           2 ieee (as the rounding says: the largest value toward zero, else infinity, of E4M3 NaN), 3 infinity (E5M2),
//           4 nan.
module float8_round #(
    parameter integer E5M2 = 0,         // 0 E4M3 of the OCP (finite values and NaN), 1 E5M2
    parameter integer WIDTH = 24,       // 2 to 120
    parameter integer ROUNDING = 0,
    parameter integer OVERFLOW = 0,
    parameter integer RANDOM_BITS = 8   // 1 to 32
) (
    input  wire                            sign,
    input  wire                            nan,
    input  wire                            infinite,
    input  wire signed [              9:0] exponent,
    input  wire        [        WIDTH-1:0] significand,
    input  wire                            sticky,
    input  wire        [  RANDOM_BITS-1:0] random,
    output logic       [              7:0] code
);
  localparam integer MANTISSA = E5M2 != 0 ? 2 : 3;
  localparam integer K = ROUNDING == 2 ? RANDOM_BITS : 1;
  localparam integer DEEPEST = MANTISSA + K + 1;  // a shift that leaves nothing in the code and in the share
  localparam integer TOP = WIDTH + DEEPEST + MANTISSA + K + 1;
  localparam [6:0] LARGEST = E5M2 != 0 ? 7'h7b : 7'h7e;
  localparam [6:0] INFINITE = E5M2 != 0 ? 7'h7c : 7'h7f;
  localparam [7:0] NAN = E5M2 != 0 ? 8'h7e : 8'h7f;

  // Octaves above the smallest normal number; below it the significand is shifted to the subnormals' place.
  wire signed [10:0] octave = {exponent[9], exponent} + (E5M2 != 0 ? 11'sd14 : 11'sd6);
  wire subnormal = octave < 11'sd0;
  wire [10:0] below = -octave;
  wire [5:0] shift = !subnormal ? 6'd0 : below > DEEPEST[10:0] ? DEEPEST[5:0] : below[5:0];
  wire [TOP:0] s = {significand, {(TOP + 1 - WIDTH) {1'b0}}} >> shift;

  wire [MANTISSA:0] kept = s[TOP-:MANTISSA+1];
  wire [K-1:0] share = s[TOP-MANTISSA-1-:K];  // of the way to the next value
  wire rest = sticky || s[TOP-MANTISSA-1-K:0] != 0;
  wire [K:0] drawn;
  generate
    if (ROUNDING == 2) begin : stochastic
      assign drawn = {1'b0, share} + {1'b0, random[K-1:0]};
    end else if (ROUNDING == 1) begin : toward_zero
      assign drawn = 0;
    end else begin : nearest
      assign drawn = {share[0] && (rest || kept[0]), 1'b0};
    end
  endgenerate

  // Codes of one sign go up by one from value to value, so a carry leads to the next octave by itself.
  wire [13:0] rounded = (subnormal ? 14'd0 : {3'd0, octave} << MANTISSA) + {{(13 - MANTISSA) {1'b0}}, kept}
      + {13'd0, drawn[K]};
  wire [6:0] finite = rounded[6:0];
  wire zero = !significand[WIDTH-1];
  wire beyond = rounded > {7'd0, LARGEST};

  wire [7:0] infinity = E5M2 != 0 ? {sign, INFINITE} : NAN;
  wire [7:0] of_infinite = OVERFLOW == 4 ? NAN : OVERFLOW == 0 ? {sign, LARGEST} : infinity;
  wire [7:0] of_beyond = OVERFLOW == 4 ? NAN
      : OVERFLOW == 3 || (OVERFLOW == 2 && ROUNDING != 1) ? infinity : {sign, LARGEST};
  assign code = nan ? NAN : infinite ? of_infinite : zero ? {sign, 7'd0} : beyond ? of_beyond : {sign, finite};
endmodule
