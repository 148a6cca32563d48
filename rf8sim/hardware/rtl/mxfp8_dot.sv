// A block of LANES products of E4M3 codes with E8M0 scales, and a float32 number c, summed as matrix engines sum: each
// product and c are shifted to the largest exponent among them, cut off FRACTION bits below it (toward zero), added, and
// the sum goes to float32 toward zero; beyond float32 to infinity. That is aligned:FRACTION:LANES of rf8sim. Lane 0 is
// in the lowest bits.
// The exponent of a product is the sum of its operands' exponents and scales, a subnormal's being that of the smallest
// normal number; the largest one is at least -126, that of float32's subnormal numbers, and products of 0 have none. NaN
// among elements, scales (ff) or c gives 7fc00000, an infinite c itself.
// STAGES   registers on the way: 0 none, 1 after the products, 2 after the sum too, 3 after the shifts too, 4 of the
//          result too.
module mxfp8_dot #(
    parameter integer LANES = 32,
    parameter integer FRACTION = 25,  // 8 to 60
    parameter integer STAGES = 0
) (
    input  wire                 clk,
    input  wire  [LANES*8-1:0]  a,
    input  wire  [LANES*8-1:0]  b,
    input  wire  [        7:0]  scale_a,
    input  wire  [        7:0]  scale_b,
    input  wire  [       31:0]  c,
    output logic [       31:0]  result
);
  // Products are below 4 in units of 2^top, c below 2.
  localparam integer TERM = FRACTION + 3;  // bits of a term in two's complement
  localparam integer WIDTH = TERM + $clog2(LANES + 1);
  localparam integer FARTHEST = FRACTION + 2;  // a shift beyond it leaves nothing
  localparam integer PLACE = 127 + WIDTH - 1 - FRACTION;

  // Products, and the largest exponent.
  wire [LANES-1:0] signs, nans, signs_1;
  wire [LANES*8-1:0] significands, significands_1;
  wire [LANES*5-1:0] exponents, exponents_1;
  generate
    genvar lane;
    for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
      e4m3_product multiply (
          .a(a[lane*8+:8]), .b(b[lane*8+:8]), .sign(signs[lane]), .significand(significands[lane*8+:8]),
          .exponent(exponents[lane*5+:5]), .nan(nans[lane]));
    end
  endgenerate
  wire [LANES-1:0] there;
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : maxima  // of a lane and those before it
      wire [4:0] earlier;
      wire [4:0] exponent = exponents[lane*5+:5];
      wire [4:0] through = there[lane] && exponent > earlier ? exponent : earlier;
      assign there[lane] = significands[lane*8+:8] != 8'd0;
      if (lane == 0) begin : first
        assign earlier = 5'd0;
      end else begin : later
        assign earlier = maxima[lane-1].through;
      end
    end
  endgenerate
  wire [4:0] largest = maxima[LANES-1].through;
  wire any = there != 0;
  // A product's exponent is that of its lane, 0 to 28, and this base.
  wire signed [10:0] base = $signed({3'd0, scale_a}) + $signed({3'd0, scale_b}) - 11'sd266;
  wire c_normal = c[30:23] != 8'd0;
  wire signed [10:0] c_exponent = $signed({3'd0, c[30:23] | {7'd0, !c_normal}}) - 11'sd127;
  wire signed [10:0] product_top = base + $signed({6'd0, largest});
  wire signed [10:0] top = any && product_top > c_exponent ? product_top : c_exponent;
  wire c_infinite = c[30:0] == 31'h7f800000;
  wire nan = nans != 0 || scale_a == 8'hff || scale_b == 8'hff || (c[30:0] > 31'h7f800000);

  wire signed [10:0] base_1, top_1, top_2, top_3, c_exponent_1;
  wire [23:0] c_significand_1;
  wire c_sign_1;
  wire [2:0] special_1, special_2, special_3;  // NaN, infinity, and its sign
  pipe #(.WIDTH(LANES * 14 + 61), .ON(STAGES >= 1)) first (
      .clk(clk),
      .d({signs, significands, exponents, base, top, c_exponent, c_normal, c[22:0], c[31], nan, c_infinite, c[31]}),
      .q({signs_1, significands_1, exponents_1, base_1, top_1, c_exponent_1, c_significand_1, c_sign_1, special_1}));

  // Every term in units of 2^(top - FRACTION), cut off; negative ones in one's complement, and their carries beside.
  wire [(LANES+1)*TERM-1:0] terms, terms_2;
  wire [LANES:0] carries_2;
  wire signed [11:0] under = {top_1[10], top_1} - {base_1[10], base_1};
  generate
    for (lane = 0; lane < LANES; lane = lane + 1) begin : shifters
      wire signed [11:0] distance = under - $signed({7'd0, exponents_1[lane*5+:5]});  // negative for some products of 0
      wire far = distance > $signed(FARTHEST[11:0]);
      wire [TERM-2:0] full = {significands_1[lane*8+:8], {(FRACTION - 6) {1'b0}}};
      wire [TERM-2:0] cut = far ? {(TERM - 1) {1'b0}} : full >> distance[5:0];
      assign terms[lane*TERM+:TERM] = {1'b0, cut} ^ {TERM{signs_1[lane]}};
    end
  endgenerate
  wire [10:0] c_distance = top_1 - c_exponent_1;
  wire [FRACTION+23:0] c_full = {c_significand_1, {FRACTION{1'b0}}};
  wire c_far = c_distance > FARTHEST[10:0];
  wire [FRACTION:0] c_cut = c_far ? {(FRACTION + 1) {1'b0}} : c_full[FRACTION+23:23] >> c_distance[5:0];
  assign terms[LANES*TERM+:TERM] = {2'b00, c_cut} ^ {TERM{c_sign_1}};
  pipe #(.WIDTH((LANES + 1) * (TERM + 1) + 14), .ON(STAGES >= 3)) second (
      .clk(clk), .d({terms, c_sign_1, signs_1, top_1, special_1}), .q({terms_2, carries_2, top_2, special_2}));

  wire [WIDTH-1:0] total, total_3;
  generate
    for (lane = 0; lane <= LANES; lane = lane + 1) begin : sums
      wire [WIDTH-1:0] earlier;
      wire [TERM-1:0] term = terms_2[lane*TERM+:TERM];
      wire [WIDTH-1:0] carry = {{(WIDTH - 1) {1'b0}}, carries_2[lane]};
      wire [WIDTH-1:0] through = earlier + {{(WIDTH - TERM) {term[TERM-1]}}, term} + carry;
      if (lane == 0) begin : first
        assign earlier = {WIDTH{1'b0}};
      end else begin : later
        assign earlier = sums[lane-1].through;
      end
    end
  endgenerate
  assign total = sums[LANES].through;
  pipe #(.WIDTH(WIDTH + 14), .ON(STAGES >= 2)) third (
      .clk(clk), .d({total, top_2, special_2}), .q({total_3, top_3, special_3}));

  // To float32, toward zero.
  wire negative = total_3[WIDTH-1];
  wire [WIDTH-1:0] magnitude = (total_3 ^ {WIDTH{negative}}) + {{(WIDTH - 1) {1'b0}}, negative};
  logic [$clog2(WIDTH)-1:0] zeros;
  logic [WIDTH-1:0] normalized;
  normalize #(.WIDTH(WIDTH)) leading (.magnitude(magnitude), .shift(zeros), .significand(normalized));
  wire [WIDTH+23:0] padded = {normalized, 24'd0};
  wire [23:0] significand = padded[WIDTH+23-:24];
  wire signed [11:0] field = {top_3[10], top_3} + $signed(PLACE[11:0])
      - $signed({{(12 - $clog2(WIDTH)) {1'b0}}, zeros});
  wire subnormal = field <= 12'sd0;
  wire [11:0] lower = 12'sd1 - field;  // how far below the smallest normal number, at most FRACTION
  wire [23:0] small_significand = significand >> lower[5:0];
  wire [30:0] rounded = field >= 12'sd255 ? 31'h7f800000
      : subnormal ? {8'd0, small_significand[22:0]} : {field[7:0], significand[22:0]};
  wire [31:0] finite = normalized[WIDTH-1] ? {negative, rounded} : 32'd0;
  wire [31:0] sum = special_3[2] ? 32'h7fc00000 : special_3[1] ? {special_3[0], 31'h7f800000} : finite;
  pipe #(.WIDTH(32), .ON(STAGES >= 4)) last (.clk(clk), .d(sum), .q(result));
endmodule
