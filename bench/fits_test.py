"""bench/fits.py and bench/chart.py on numbers made by hand."""

import unittest
import xml.etree.ElementTree

import chart
import fits


class Lines(unittest.TestCase):
    def test_line_goes_through_points_on_a_line(self):
        line = fits.decode_line({0: 9.5, 2048: 9.5 + 2.048, 8192: 9.5 + 8.192})
        self.assertAlmostEqual(line(131072), 9.5 + 131.072)
        self.assertAlmostEqual(line.worst, 0)
        self.assertEqual(line.last_measured, 8192)

    def test_whole_prompts_give_the_cost_of_each_position(self):
        # The token at position p takes 2 + p / 1000 ms.
        means = {n: sum(2 + p / 1000 for p in range(n)) / n for n in (512, 8192, 16384)}
        line = fits.prefill_line(means)
        n = 131072
        self.assertAlmostEqual(n * line(n) / sum(2 + p / 1000 for p in range(n)), 1, places=3)

    def test_a_point_counts_by_its_relative_error(self):
        # 10 % too much at the small end weighs as 10 % too much at the large one.
        low = fits.Line([(0, 11), (1000, 1010), (2000, 2010)])
        self.assertLess(abs(low(0) - 11), 1)
        self.assertLess(low.worst, 0.1)

    def test_one_place_is_no_line(self):
        with self.assertRaisesRegex(ValueError, "two different places"):
            fits.Line([(8192, 20.0), (8192, 21.0)])


class Ratios(unittest.TestCase):
    def test_ratios_are_taken_round_by_round(self):
        # The machine was half as fast in the second round: that is no difference between programs.
        self.assertEqual(fits.ratios([10, 20], [15, 30]), [1.5, 1.5])

    def test_spread_is_a_share_of_the_median(self):
        self.assertAlmostEqual(fits.spread([9, 10, 11]), 0.2)


class Charts(unittest.TestCase):
    def drawn(self, *series):
        svg = chart.draw(series, "Title & more", "beneath")
        return svg, xml.etree.ElementTree.fromstring(svg)

    def test_is_xml_with_a_dot_for_each_measured_point(self):
        svg, root = self.drawn(chart.Series("a <b>", [(512, 3.0), (8192, 9.0)], [(131072, 90.0)]),
                               chart.Series("c", [(512, 2.0)]))
        self.assertEqual(len(root.findall("{*}circle")), 3)
        self.assertIn("stroke-dasharray", svg)
        self.assertIn("a &lt;b&gt;: 90.0 ms (fitted)", svg)
        self.assertIn("c: 2 ms", svg)

    def test_labels_do_not_cover_each_other(self):
        self.assertEqual(chart.spaced([100, 101, 102], 17, 50, 400), [100, 117, 134])
        low = chart.spaced([396, 397, 398], 17, 50, 400)
        self.assertEqual(low, [366, 383, 400])

    def test_ticks_are_one_two_five(self):
        self.assertEqual(chart.ticks(0.9, 60), [1, 2, 5, 10, 20, 50])


if __name__ == "__main__":
    unittest.main()
