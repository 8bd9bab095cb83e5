import torch

from minillm.callbacks.attention_maps import CELL_PIXELS, MARGIN_PIXELS, draw_attention_maps


def test_a_weight_is_drawn_dark_in_the_cell_of_its_layer_head_query_and_key():
    maps = torch.zeros(2, 3, 5, 5)
    maps[1, 2, 4, 1] = 1.0
    picture = draw_attention_maps(maps, list("ab\n d"))
    side = MARGIN_PIXELS + 5 * CELL_PIXELS + MARGIN_PIXELS
    assert picture.shape == (3, 2 * side, 3 * side)
    assert picture.dtype == torch.uint8
    middle = CELL_PIXELS // 2
    rows, columns = 1 * side + MARGIN_PIXELS + middle, 2 * side + MARGIN_PIXELS + middle
    cells = picture[:, rows : rows + 5 * CELL_PIXELS : CELL_PIXELS, columns : columns + 5 * CELL_PIXELS : CELL_PIXELS]
    dark = (cells.sum(dim=0) < 300).nonzero().tolist()
    assert dark == [[4, 1]]
    assert cells[:, 0, 0].tolist() == [255, 255, 255]


def test_characters_missing_from_the_font_are_accepted():
    assert draw_attention_maps(torch.ones(1, 1, 3, 3) / 3, ["é", "🙂", "\n"]).shape[0] == 3
