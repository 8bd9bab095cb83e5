import torch

from minillm.callbacks.attention_maps import CELL, MARGIN, draw


def test_every_layer_and_head_has_its_place_and_weights_their_colours():
    maps = torch.zeros(2, 3, 5, 5)
    maps[1, 2, 4, 1] = 1.0
    picture = draw(maps, list("ab\n d"))
    side = MARGIN + 5 * CELL + MARGIN
    assert picture.shape == (3, 2 * side, 3 * side)
    assert picture.dtype == torch.uint8
    middle = CELL // 2
    rows, columns = 1 * side + MARGIN + middle, 2 * side + MARGIN + middle
    cells = picture[:, rows : rows + 5 * CELL : CELL, columns : columns + 5 * CELL : CELL]
    dark = (cells.sum(dim=0) < 300).nonzero().tolist()
    assert dark == [[4, 1]]
    assert cells[:, 0, 0].tolist() == [255, 255, 255]


def test_characters_that_no_font_here_has_do_no_harm():
    assert draw(torch.ones(1, 1, 3, 3) / 3, ["é", "🙂", "\n"]).shape[0] == 3
