/* files.h - reading, writing and copying pictures on a thread of their own, in the order they were asked for. */
#ifndef DC_VIEW_FILES_H
#define DC_VIEW_FILES_H
#include "apps/viewer/worker.h"

typedef enum file_task { FILE_READ, FILE_WRITE, FILE_COPY } file_task;
typedef struct file_news {
    file_task task;
    char path[512];    /* that was read; where it was written */
    picture *picture;  /* read (NULL: the file holds no picture, but parameters), written or copied; the taker's to drop */
    recipe *recipe;    /* read; NULL: the file says none */
    bool only_text;    /* copied: no program here puts pictures on the clipboard, so the taker puts the parameters there */
    diffc_error error; /* code 0: none */
} file_news;

typedef struct files files;
/* pattern: of names of written pictures. event: pushed once for each news. */
files *files_open(const char *pattern, const diffc_image_style *style, uint32_t event);
bool files_read(files *f, const char *path);
bool files_write(files *f, picture *p); /* false: out of memory; so the next */
bool files_copy(files *f, picture *p);  /* to the clipboard, as PNG */
bool files_take(files *f, file_news *out);
/* Does what was asked for, then ends. */
void files_close(files *f);

#endif
