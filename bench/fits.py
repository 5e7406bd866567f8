"""What measured times come to: medians, ratios, and lines through them."""

import statistics


def median(values):
    return statistics.median(values)


def spread(values):
    """How far the values lie apart, as a share of their median: 0.03 is 3 %."""
    return (max(values) - min(values)) / median(values)


def ratios(ours, theirs):
    """theirs / ours, round by round: above 1 we are faster. Rounds that only one of them has do not count."""
    return [b / a for a, b in zip(ours, theirs)]


class Line:
    """y = at_zero + slope * x, through points by least squares of relative errors: a point counts as much at 10 ms as
    at 1,000 ms, since it is about as many percent wrong."""

    def __init__(self, points):
        points = [(float(x), float(y)) for x, y in points]
        if len({x for x, _ in points}) < 2:
            raise ValueError("a line needs measurements at two different places")
        weights = [1 / (y * y) for _, y in points]
        total = sum(weights)
        mean_x = sum(w * x for w, (x, _) in zip(weights, points)) / total
        mean_y = sum(w * y for w, (_, y) in zip(weights, points)) / total
        self.slope = (sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points))
                      / sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points)))
        self.at_zero = mean_y - self.slope * mean_x
        self.last_measured = max(x for x, _ in points)
        self.worst = max(abs(self(x) / y - 1) for x, y in points)  # of its own points: how well it is a line

    def __call__(self, x):
        return self.at_zero + self.slope * x


def decode_line(ms_by_depth):
    """ms a token at any depth: fixed work, and work for each entry."""
    return Line(ms_by_depth.items())


def prefill_line(ms_by_prompt):
    """Mean ms a token of a prompt of n tokens. The token at position p costs a + b p, so the mean over n is a line in n
    too; n times it is the whole prompt."""
    return Line(ms_by_prompt.items())
