/* memory.c - how much memory there is, and how much this process holds. */
#include "pipeline/model.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Value of a "Key:   123 kB" line of a /proc file, in bytes; UINT64_MAX when it is not there. */
static uint64_t proc_value(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    if (!f) return UINT64_MAX;
    char line[256];
    uint64_t found = UINT64_MAX;
    while (found == UINT64_MAX && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':') found = strtoull(line + strlen(key) + 1, NULL, 10) * 1024;
    fclose(f);
    return found;
}

/* A file that holds one number ("max" and failure: UINT64_MAX). */
static uint64_t one_number(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) return UINT64_MAX;
    char line[64] = "";
    char *got = fgets(line, sizeof line, f);
    uint64_t v = got && line[0] >= '0' && line[0] <= '9' ? strtoull(line, NULL, 10) : UINT64_MAX;
    fclose(f);
    return v;
}

static uint64_t less(uint64_t limit, uint64_t used)
{
    if (limit == UINT64_MAX) return limit;
    return limit > used ? limit - used : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

uint64_t memory_anonymous(void)
{
    uint64_t v = proc_value("/proc/self/status", "RssAnon");
    return v == UINT64_MAX ? 0 : v;
}

uint64_t memory_available(uint64_t limit)
{
    uint64_t anonymous = memory_anonymous();
    uint64_t free_now = proc_value("/proc/meminfo", "MemAvailable");
    uint64_t v2_used = one_number("/sys/fs/cgroup/memory.current");
    uint64_t v1_used = one_number("/sys/fs/cgroup/memory/memory.usage_in_bytes");
    /* What is in use already includes us, so our own share is added back: the result is what the process may have in all. */
    uint64_t in_all = free_now == UINT64_MAX ? UINT64_MAX : free_now + anonymous;
    if (v2_used != UINT64_MAX) {
        uint64_t left = less(one_number("/sys/fs/cgroup/memory.max"), v2_used);
        if (left != UINT64_MAX) in_all = smaller(in_all, left + anonymous);
    }
    if (v1_used != UINT64_MAX) {
        uint64_t left = less(one_number("/sys/fs/cgroup/memory/memory.limit_in_bytes"), v1_used);
        if (left != UINT64_MAX) in_all = smaller(in_all, left + anonymous);
    }
    struct rlimit r;
    if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY) {
        uint64_t size = proc_value("/proc/self/status", "VmSize");
        in_all = smaller(in_all, less(r.rlim_cur, size == UINT64_MAX ? 0 : size) + anonymous);
    }
    return limit ? smaller(in_all, limit) : in_all;
}
