-- Fixed point to RF8 in VHDL-2008: (-1)**sign * magnitude * 2.0**(-FRACTION), rounded once. Generics and ports are those
-- of rf8_encode.sv.
-- Sticky: bits below the last one were cut off and not all of them were 0. Exact in nearest-even if FRACTION >= 20,
-- for then every threshold is a number of units; in residual no cut input can be rounded exactly, and sticky is not
-- looked at: give all bits.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;

entity rf8_encode is
  generic (
    WIDTH : positive range 2 to 120 := 40;
    FRACTION : natural range 0 to 120 := 38;
    RESIDUAL : natural range 0 to 1 := 0;      -- 0 nearest-even, 1 residual
    NAN_OVERFLOW : natural range 0 to 1 := 0   -- beyond the largest value: 0 saturates, 1 makes NaN
  );
  port (
    sign : in std_logic;
    magnitude : in std_logic_vector(WIDTH - 1 downto 0);
    sticky : in std_logic;
    nan : in std_logic;
    code : out std_logic_vector(7 downto 0)
  );
end entity;

architecture rtl of rf8_encode is
  constant TOP : positive := WIDTH + 6;  -- place of the leading one, with 7 bits added below
  -- floor(sqrt(2) * 2**127)
  constant ROOT : unsigned(127 downto 0) := x"b504f333f9de6484597d89b3754abe9f";
  subtype significand_t is unsigned(TOP downto 0);
  type thresholds_t is array (0 to 6) of significand_t;
  type midpoints_t is array (0 to 6) of natural;
  constant MIDPOINTS : midpoints_t := (1, 3, 6, 12, 20, 26, 30);  -- nearest, in units of 1/32

  -- floor(sqrt(2) * 2**(TOP - k)), in units of the significand
  function root_over(k : natural) return significand_t is
  begin
    return resize(shift_right(ROOT, 127 - TOP + k), TOP + 1);
  end function;

  -- Residual: floors of the thresholds, 1 + sqrt(2)/32 to 2 (1 - sqrt(2)/32)
  function residual_thresholds return thresholds_t is
    constant UNIT : significand_t := shift_left(to_unsigned(1, TOP + 1), TOP);
    constant LARGEST : significand_t := (others => '1');
  begin
    return (UNIT + root_over(5), UNIT + root_over(4), UNIT + root_over(3), UNIT + root_over(2),
            LARGEST - root_over(2), LARGEST - root_over(3), LARGEST - root_over(4));
  end function;

  constant THRESHOLDS : thresholds_t := residual_thresholds;
begin
  process (all)
    variable leading : natural range 0 to WIDTH - 1;
    variable octave : integer range -128 to 255;
    variable s : significand_t;
    variable part : natural range 0 to 31;  -- in units of 1/32
    variable place : natural range 0 to 7;
    variable packed : natural range 0 to 127;
    variable rest, above, above_half, smallest, zero, overflow : boolean;
  begin
    leading := 0;
    for bit in 0 to WIDTH - 1 loop
      if magnitude(bit) = '1' then
        leading := bit;
      end if;
    end loop;
    octave := leading - FRACTION + 15;
    s := shift_left(unsigned(magnitude) & "0000000", WIDTH - 1 - leading);
    part := to_integer(s(TOP - 1 downto TOP - 5));
    rest := sticky = '1' or s(TOP - 6 downto 0) /= 0;

    place := 0;
    for index in 0 to 6 loop
      if RESIDUAL /= 0 then
        above := s > THRESHOLDS(index);
      else  -- at a midpoint the upper value is taken if its rank, 7 octave + 4 + index, is even
        above := part > MIDPOINTS(index)
            or (part = MIDPOINTS(index) and (rest or (octave + index) mod 2 = 0));
      end if;
      if above then
        place := index + 1;
      end if;
    end loop;

    -- The smallest value is 28/16 * 2**(-1 - 15), and half of it 28/16 * 2**(-2 - 15) goes to zero.
    above_half := part > 24 or (part = 24 and rest);
    smallest := (octave = -1 and place <= 5) or (octave = -2 and above_half);
    zero := s(TOP) = '0' or octave < -2 or (octave = -2 and not above_half);
    overflow := not zero and not smallest and (octave > 15 or (octave = 15 and place > 4));

    -- 1.5 * 2**e has r = 7; the next value, 1.75 * 2**e, has r = 1 of the next exponent: r = 0 is an alias and skipped.
    packed := (8 * (octave mod 16) + 3 + place) mod 128;
    if place > 4 then
      packed := (packed + 1) mod 128;
    end if;
    if nan = '1' or (overflow and NAN_OVERFLOW /= 0) then
      code <= x"80";
    elsif zero then
      code <= x"00";
    elsif smallest then
      code <= sign & "0000001";
    elsif overflow then
      code <= sign & "1111111";
    else
      code <= sign & std_logic_vector(to_unsigned(packed, 7));
    end if;
  end process;
end architecture;
