#include "bench_text.h"

namespace lacake::cli {

const std::string_view kBenchText =
    R"(The lighthouse at the end of the bay had been dark for eleven years when Marta Lindqvist bought it, together with
the keeper's cottage, a shed full of ropes, and forty acres of grass that no animal had ever agreed to eat. The lawyer
who read the deed aloud kept stopping to look at her over his glasses, as if each line were a chance for her to change
her mind. She did not. She signed in four places, paid for his coffee, and drove out along the coast road before noon.

The first week was spent on the roof. Slate by slate she learned which ones would hold and which ones came away in her
hand like pages from a wet book. In the evenings she wrote letters to her brother, who lived in a city with trams and
three newspapers, and who believed that she had lost her mind. "You would like the light here," she wrote. "It comes in
sideways, as though it had been somewhere else first." He answered with questions about insurance, drains, and the
price of oil, and enclosed a cutting about a storm of 1962 that had taken the whole north pier and two fishing boats.

In the second month the lamp itself had to be faced. It stood at the top of one hundred and twelve steps, under a
canvas sheet that had gone green, and it was made of more than nine hundred pieces of glass. Each prism was set in a
brass frame; each frame was held by four screws; and every screw had been painted over, twice, by somebody who plainly
did not mean to come back. Marta counted the prisms, drew a plan of them, and gave each one a number. Those that were
whole she marked in blue. Those that were cracked she marked in red. By the end of the month there were 871 blue
numbers and 46 red ones, and she knew the face of every one of them, as a teacher knows a class.

The old harbour master, whose name was Tobias Renn, came to see what she was doing. He climbed the stairs without a
pause, although he was nearly eighty, and walked around the lamp with his hands behind his back. "My father lit this,"
he said at last. "And his father carried the oil. It was seen from nineteen miles away on a clear night, and from four
on a bad one. Do you know what a ship does when it cannot see the light?" She said that she supposed it turned back.
"No," said Tobias. "It goes on, and hopes. That is what everyone does. That is why there has to be a light."

He came again the next day with a box under his arm. Inside it, wrapped in pages from newspapers older than either of
them, were thirty prisms, cut in the same works as those in the lamp, and never used. His father had kept them against
the day when they would be needed; then the light had been put out, by letter, from an office inland, and the day had
not come. Thirty was not forty-six. But it was enough for the seaward side, and the land, as Tobias said, could look
after itself for another winter. They fitted the first prism that same afternoon. The screw turned as if it had been
oiled the day before, the glass went home with a small click, and far below them, on the grey water, the first of the
evening's boats changed its course by a little, though nothing had been lit, and nobody on board could have said why.
)";

}  // namespace lacake::cli
