/* replay.c - runs a fuzz target on every file of the folders given: what the fuzzer has found stays found. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) return -1;
    long n = ftell(f);
    uint8_t *bytes = malloc(n > 0 ? (size_t)n : 1); /* exactly as large, so that a sanitizer sees the end */
    rewind(f);
    if (!bytes || fread(bytes, 1, (size_t)n, f) != (size_t)n) return -1;
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, (size_t)n);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    int files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        for (struct dirent *x; d && (x = readdir(d));) {
            char path[4096];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", argv[i], x->d_name);
            if (stat(path, &st) || !S_ISREG(st.st_mode)) continue;
            if (replay(path)) {
                fprintf(stderr, "%s: cannot be read\n", path);
                return 1;
            }
            files++;
        }
        if (d) closedir(d);
    }
    printf("%d inputs\n", files);
    return files == 0;
}
