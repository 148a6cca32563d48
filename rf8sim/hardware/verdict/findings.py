"""What a diagnosis finds: a cause that predicts every answer, a place, or what is true of an unknown fault."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What explains wrong answers, or where they are.

    Attributes
    ----------
    name, sentence : str
        The cause, or what is known instead.
    explained, wrong : int
        How many of the wrong answers it is about.
    false : int
        How many other answers contradict it; of an unknown fault how many right answers are in the same place.
    vectors : int
        Over how many vectors that was tried.
    where : str
        The condition under which it holds; nothing if it holds everywhere.
    kind : str
        ``cause``; ``location``: answers are wrong exactly there; ``part``: a cause of some of the wrong answers that
        no answer contradicts; ``unknown``.
    """

    name: str
    sentence: str
    explained: int
    wrong: int
    false: int
    vectors: int
    where: str = ""
    kind: str = "cause"

    @property
    def proved(self) -> bool:
        """Whether it is a cause that predicts every answer."""
        return self.kind == "cause" and self.explained == self.wrong and not self.false

    def statement(self) -> str:
        """Return it in words.

        Examples
        --------
        >>> Finding("rounds up", "the design rounds up", 5, 5, 0, 64, "a is 0").statement()
        'where a is 0, the design rounds up: this explains all 5 wrong results and predicts every one of the 64 results'
        """
        where = f"where {self.where}, " if self.where else ""
        if self.kind == "location":
            return self.sentence
        if self.kind == "unknown":
            return self.sentence
        if self.proved:
            return (
                f"{where}{self.sentence}: this explains all {self.wrong:,} wrong results and predicts every one of the "
                f"{self.vectors:,} results"
            )
        share = 100 * self.explained / self.wrong
        return (
            f"{where}{self.sentence}: this explains {self.explained:,} of {self.wrong:,} wrong results ({share:.0f} %) "
            "and contradicts no answer"
        )
