// The RF8 code of the value number `place` of an octave: of 1, 17/16, 18/16, 20/16, 24/16, 28/16, 30/16, 2 times
// 2^(octave - 15). Octave -1 knows places 5 to 7 only, lower ones are zero unless `smallest` says that the smallest
// value is meant. Beyond 1.5, the largest value: saturation, or NaN.
module rf8_pack #(
    parameter NAN_OVERFLOW = 0
) (
    input  wire               sign,
    input  wire               nan,
    input  wire               zero,      // nothing to pack: the result is zero
    input  wire               smallest,  // the smallest value, whatever octave and place say
    input  wire  signed [8:0] octave,
    input  wire         [2:0] place,
    output logic        [7:0] code
);
  wire overflow = !zero && !smallest && (octave > 9'sd15 || (octave == 9'sd15 && place > 3'd4));
  // 1.5 * 2^e has r = 7; the next value, 1.75 * 2^e, has r = 1 of the next exponent: r = 0 is an alias and skipped.
  wire [6:0] packed_code = {octave[3:0], 3'd3} + {4'd0, place} + {6'd0, place > 3'd4};

  always_comb begin
    if (nan || (overflow && NAN_OVERFLOW != 0)) code = 8'h80;
    else if (zero) code = 8'h00;
    else if (smallest) code = {sign, 7'h01};
    else if (overflow) code = {sign, 7'h7f};
    else code = {sign, packed_code};
  end
endmodule
