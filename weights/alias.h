/* alias.h - rows that say how a tensor is named in a file and by diffusers, read in either direction; private to this folder.
 *
 *     {"mid.block_#.*", "mid_block.resnets.<.*"}      mid.block_1.conv1.weight <-> mid_block.resnets.0.conv1.weight
 *
 * In both columns '#' stands for a number and a final '*' for the rest, which `inside` rows may rename in turn. In the file's column:
 *   @ %   a block of CompVis' UNet, input_blocks.@ and output_blocks.%: two numbers of the other column, its level and its layer there
 *         (one number: the last block of that level)
 *   ~     1, or 2 in a block that has a transformer
 * In diffusers' column:
 *   ^     the number counted from the other end of the levels
 *   <     the number less one
 *   ?     q, k or v: three tensors, which are the rows of one in the file
 *   '     the file stores the matrix as [in,out]
 *   "     a matrix that the file has as a 1x1 convolution */
#ifndef DC_WEIGHTS_ALIAS_H
#define DC_WEIGHTS_ALIAS_H
#include "weights/reader.h"

#define DC_MAX_BLOCKS 64

typedef struct dc_alias {
    const char *file, *ours; /* file NULL: the end */
    const struct dc_alias *inside;
} dc_alias;

/* What the numbers of a model's blocks mean. */
typedef struct dc_numbering {
    struct dc_block {
        int level, layer;
        bool attends; /* known on the way back only */
    } down[DC_MAX_BLOCKS], up[DC_MAX_BLOCKS];
    int n_down, n_up;
    int levels; /* what '^' counts from */
} dc_numbering;

typedef struct dc_renaming {
    char name[DC_MAX_NAME + 64];
    bool transposed, square; /* ' and " */
    int letter;              /* -1, or where in diffusers' name the letter of '?' stands ... */
    int third;               /* ... and which it is: 0 q, 1 k, 2 v; -1: all three, the file's name was given */
} dc_renaming;

/* The name on the other side, by the first row that fits: of a tensor of the file, or `back` to the file. False: no row fits. An empty
 * name: the tensor is known and of no use. */
bool dc_alias_apply(dc_renaming *to, const dc_alias *rows, bool back, const char *name, const dc_numbering *n);

#endif
