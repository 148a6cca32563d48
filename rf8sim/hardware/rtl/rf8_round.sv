// A normalized significand (top bit set; 0 for zero) of an octave to the RF8 code, correctly rounded.
// RESIDUAL = 0: nearest, ties to even rank. RESIDUAL = 1: the two-step rule of the format's source, whose thresholds
// are 1 + sqrt(2)/32, ..., 2 (1 - sqrt(2)/32): no binary number is on one, so it is compared with their floors.
// Sticky says that the input is larger than it looks, by less than one unit: see rf8_encode for when that is exact.
module rf8_round #(
    parameter integer WIDTH = 40,  // at most 120
    parameter RESIDUAL = 0,
    parameter NAN_OVERFLOW = 0
) (
    input  wire                     sign,
    input  wire                     nan,
    input  wire  signed [      8:0] octave,
    input  wire         [WIDTH-1:0] significand,
    input  wire                     sticky,
    output logic        [      7:0] code
);
  localparam integer TOP = WIDTH + 6;  // place of the leading one, with 7 bits added below
  // floor(sqrt(2) * 2^127)
  localparam [127:0] ROOT = 128'hb504f333f9de6484597d89b3754abe9f;

  wire [TOP:0] s = {significand, 7'd0};
  wire [4:0] fraction = s[TOP-1-:5];  // in units of 1/32
  wire rest = sticky || (s[TOP-6:0] != 0);
  logic [6:0] passed;  // which thresholds of the octave the input is above

  generate
    if (RESIDUAL != 0) begin : residual
      // floor(sqrt(2) * 2^(TOP - k)), in units of s
      `define RF8_ROOT(k) (ROOT >> (127 - TOP + (k)))
      localparam [127:0] ONE = 128'd1 << TOP;
      localparam [127:0] T0 = ONE + `RF8_ROOT(5);
      localparam [127:0] T1 = ONE + `RF8_ROOT(4);
      localparam [127:0] T2 = ONE + `RF8_ROOT(3);
      localparam [127:0] T3 = ONE + `RF8_ROOT(2);
      localparam [127:0] T4 = 2 * ONE - 1 - `RF8_ROOT(2);
      localparam [127:0] T5 = 2 * ONE - 1 - `RF8_ROOT(3);
      localparam [127:0] T6 = 2 * ONE - 1 - `RF8_ROOT(4);
      `undef RF8_ROOT
      wire [127:0] wide = {{(127 - TOP) {1'b0}}, s};
      assign passed = {wide > T6, wide > T5, wide > T4, wide > T3, wide > T2, wide > T1, wide > T0};
    end else begin : nearest
      // At a midpoint the upper value is taken if its rank, 7 octave + 4 + threshold, is even.
      wire [1:0] tie = {octave[0] || rest, !octave[0] || rest};  // of odd and of even thresholds
      assign passed = {
        fraction > 5'd30 || (fraction == 5'd30 && tie[0]),
        fraction > 5'd26 || (fraction == 5'd26 && tie[1]),
        fraction > 5'd20 || (fraction == 5'd20 && tie[0]),
        fraction > 5'd12 || (fraction == 5'd12 && tie[1]),
        fraction > 5'd6 || (fraction == 5'd6 && tie[0]),
        fraction > 5'd3 || (fraction == 5'd3 && tie[1]),
        fraction > 5'd1 || (fraction == 5'd1 && tie[0])
      };
    end
  endgenerate

  logic [2:0] place;
  always_comb begin
    casez (passed)
      7'b1??????: place = 3'd7;
      7'b01?????: place = 3'd6;
      7'b001????: place = 3'd5;
      7'b0001???: place = 3'd4;
      7'b00001??: place = 3'd3;
      7'b000001?: place = 3'd2;
      7'b0000001: place = 3'd1;
      default: place = 3'd0;
    endcase
  end

  // The smallest value is 28/16 * 2^(-1 - 15), and half of it 28/16 * 2^(-2 - 15) goes to zero.
  wire above_half = fraction > 5'd24 || (fraction == 5'd24 && rest);
  wire smallest = (octave == -9'sd1 && place <= 3'd5) || (octave == -9'sd2 && above_half);
  wire zero = !s[TOP] || octave < -9'sd2 || (octave == -9'sd2 && !above_half);

  rf8_pack #(.NAN_OVERFLOW(NAN_OVERFLOW)) pack (
      .sign(sign), .nan(nan), .zero(zero), .smallest(smallest), .octave(octave), .place(place), .code(code));
endmodule
