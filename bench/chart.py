"""A picture of lines over a logarithmic axis, ms a token against depth for example, as SVG text."""

import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 78, 236, 64, 66
INK, GRID, PAPER = "#222222", "#dddddd", "#ffffff"
COLORS = ("#c43c1e", "#e08a1e", "#7a4fb5", "#1f77b4", "#2a9d5c", "#666666", "#b5477f", "#4d4d99")


class Series:
    """Points of one program: measured ones with a dot; fitted ones continue the line, dashed."""

    def __init__(self, name, measured, fitted=()):
        self.name = name
        self.measured = sorted(measured)
        self.fitted = sorted(fitted)


class Scale:
    """Logarithmic, from data to picture."""

    def __init__(self, low, high, begin, end):
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value):
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self):
        return ticks(self.low, self.high)


class PercentScale(Scale):
    """From 0 to 100, linear."""

    def __init__(self, begin, end):
        super().__init__(0, 100, begin, end)

    def __call__(self, value):
        return self.begin + value / 100 * (self.end - self.begin)

    def ticks(self):
        return range(0, 101, 20)


def ticks(low, high):
    """1, 2, 5, 10, 20, ... within."""
    found = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [m * 10.0**power for m in (1, 2, 5) if low <= m * 10.0**power <= high]
    return found


def spaced(wanted, least, low, high):
    """Heights of labels, in the order given, moved apart so that no two are closer than `least`."""
    placed = []
    for y in wanted:
        placed.append(max(y, placed[-1] + least if placed else low))
    overflow = placed[-1] - high if placed else 0
    if overflow > 0:  # pushed below the edge: move up from the bottom
        limit = high
        for i in range(len(placed) - 1, -1, -1):
            placed[i] = min(placed[i], limit)
            limit = placed[i] - least
    return placed


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def draw(series, title, subtitle, across="tokens before the one that is measured", up="ms a token", unit=" ms",
         percent=False):
    """REQUIRES: at least one series with a point; what is across above 0. Upwards it is logarithmic, or percent."""
    points = [p for s in series for p in (*s.measured, *s.fitted)]
    depths = sorted({x for x, _ in points})
    x = Scale(depths[0], max(depths[-1], depths[0] * 2), LEFT, WIDTH - RIGHT)
    if percent:
        y = PercentScale(HEIGHT - BOTTOM, TOP)
    else:
        y = Scale(min(ms for _, ms in points) / 1.4, max(ms for _, ms in points) * 1.4, HEIGHT - BOTTOM, TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Helvetica, Arial, sans-serif" font-size="13" fill="{INK}">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
           f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">{escape(title)}</text>',
           f'<text x="{LEFT}" y="46" fill="#666666">{escape(subtitle)}</text>']
    for value in y.ticks():
        at = y(value)
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{GRID}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>')
    previous = -math.inf
    for depth in depths:
        at = x(depth)
        out.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        if at - previous >= 52:
            out.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{depth:,}</text>')
            previous = at
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{escape(across)}</text>')
    out.append(f'<text transform="translate(22 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
               f'{escape(up)}</text>')

    ends = sorted(((y((s.fitted or s.measured)[-1][1]), i) for i, s in enumerate(series)))
    heights = dict(zip((i for _, i in ends), spaced([at for at, _ in ends], 17, TOP + 4, HEIGHT - BOTTOM)))
    for i, s in enumerate(series):
        color = COLORS[i % len(COLORS)]
        out.append(path(s.measured, x, y, color, ""))
        if s.fitted:
            out.append(path([s.measured[-1], *s.fitted], x, y, color, ' stroke-dasharray="5 5"'))
        for depth, ms in s.measured:
            out.append(f'<circle cx="{x(depth):.1f}" cy="{y(ms):.1f}" r="3.5" fill="{color}"/>')
        last_x, last_y = (s.fitted or s.measured)[-1]
        label_x = WIDTH - RIGHT + 22
        out.append(f'<line x1="{x(last_x) + 5:.1f}" y1="{y(last_y):.1f}" x2="{label_x - 4}" y2="{heights[i]:.1f}" '
                   f'stroke="{color}" stroke-width="0.7"/>')
        fitted = " (fitted)" if s.fitted else ""
        out.append(f'<text x="{label_x}" y="{heights[i] + 4:.1f}" fill="{color}">{escape(s.name)}: '
                   f'{number(last_y)}{unit}{fitted}</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def path(points, x, y, color, more):
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x(depth):.1f} {y(ms):.1f}" for i, (depth, ms) in enumerate(points))
    return f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="2.2"{more}/>'
