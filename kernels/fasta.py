"""The bytes of a FASTA file: bases out of lines, and the layout of those lines for random access."""

import numpy as np

from mirscan.kernels._jit import kernel

NEW_LINE, CARRIAGE_RETURN, SPACE, TAB, RECORD_MARK = 10, 13, 32, 9, 62
INVALID = 255

LINE, BASES, EXTRA, BLANK, RETURNED, WIDTH, LINE_BYTES, CLOSED, IRREGULAR = range(9)
"""Places in the state of a record: number of the current line; its bases and its other bytes so far; whether a blank or
a carriage return has ended it; bases and bytes of a full line; whether a shorter line has come; whether a base came
after that, so that its place in the file does not follow from its number."""
STATE_SIZE = 9

BLOCK_END, NEXT_RECORD, STOPPED = range(3)


@kernel()
def strip_lines(
    block: np.ndarray, position: int, code: np.ndarray, letters: np.ndarray, state: np.ndarray
) -> tuple[int, int, int]:
    """Copy the bases of one record out of its lines, up to the block's end or the next record.

    Parameters
    ----------
    block : np.ndarray
        uint8, a stretch of the file.
    position : int
        Where to start in it: anywhere within the record, also within a line.
    code : np.ndarray
        uint8 (256,), 255 for every byte that is no base.
    letters : np.ndarray
        uint8, as long as the block; receives the bases.
    state : np.ndarray
        int64 (STATE_SIZE,), carried from block to block; zeros and the line number at a record's start.

    Returns
    -------
    tuple of int
        The position reached, the number of bases, and why it ended: ``BLOCK_END``, ``NEXT_RECORD`` (at its ``>``) or
        ``STOPPED`` (at a byte that cannot stand there).
    """
    line, extra, blank, returned = state[LINE], state[EXTRA], state[BLANK], state[RETURNED]
    count = 0
    line_start = -state[BASES]
    reason = BLOCK_END
    while position < block.size:
        byte = block[position]
        if code[byte] != INVALID:
            if extra:
                reason = STOPPED
                break
            letters[count] = byte
            count += 1
        elif byte == NEW_LINE:
            bases = count - line_start
            line_bytes = bases + extra + 1
            if bases and state[CLOSED]:
                state[IRREGULAR] = 1
            elif bases and not state[WIDTH]:
                state[WIDTH], state[LINE_BYTES] = bases, line_bytes
            elif bases > state[WIDTH]:
                state[IRREGULAR] = 1
            if bases < state[WIDTH] or line_bytes != state[LINE_BYTES] or not bases:
                state[CLOSED] = 1
            if blank:
                state[IRREGULAR] = 1
            line += 1
            line_start = count
            extra = blank = returned = 0
        elif returned:
            reason = STOPPED
            break
        elif byte == CARRIAGE_RETURN:
            extra += 1
            returned = 1
        elif byte in (SPACE, TAB):
            extra += 1
            blank = 1
        else:
            reason = NEXT_RECORD if byte == RECORD_MARK and count == line_start and not extra else STOPPED
            break
        position += 1
    state[LINE], state[BASES], state[EXTRA], state[BLANK], state[RETURNED] = (
        line,
        count - line_start,
        extra,
        blank,
        returned,
    )
    return position, count, reason


@kernel()
def tally(
    letters: np.ndarray,
    code: np.ndarray,
    chosen: np.ndarray,
    fold: np.ndarray,
    codes: np.ndarray,
    folded: np.ndarray,
) -> tuple[int, int]:
    """Encode and fold bases, and count the ambiguous and the soft-masked ones.

    Parameters
    ----------
    letters : np.ndarray
        uint8 (length,), valid bases.
    code : np.ndarray
        uint8 (256,), 4 for ambiguous letters in either case.
    chosen : np.ndarray
        uint8 (256,), the codes to write.
    fold : np.ndarray
        uint8 (256,), the letter under which a letter is digested.
    codes, folded : np.ndarray
        uint8, at least as long as the letters; receive the result.

    Returns
    -------
    tuple of int
        Ambiguous and soft-masked bases.
    """
    ambiguous = 0
    masked = 0
    for i in range(letters.size):
        letter = letters[i]
        codes[i] = chosen[letter]
        folded[i] = fold[letter]
        ambiguous += code[letter] == 4
        masked += letter >= 97
    return ambiguous, masked
