/* hash.c - the hash that a picture's parameters name its model by, computed on a thread beside the sampling. */
#include "pipeline/model.h"

static void *hash_file(void *ctx)
{
    diffc_model *m = ctx;
    dc_error e = {0};
    if (dc_file_sha256(m->hash, dc_weights_file_at(m->unet_weights, 0), &m->hash_stop, &e) && e.code != DC_CANCELLED)
        dc_log_write(&m->log, DC_LOG_WARNING, "%s; pictures will name no model hash", e.text);
    return NULL;
}

void model_hash_begin(diffc_model *m)
{
    if (m->hashing || *m->hash || dc_weights_file_count(m->unet_weights) != 1) return; /* of several shards there is no usual hash */
    m->hashing = pthread_create(&m->hash_thread, NULL, hash_file, m) == 0;
}

const char *model_hash(diffc_model *m)
{
    if (m->hashing) pthread_join(m->hash_thread, NULL);
    m->hashing = false;
    m->hash[*m->hash ? DC_HASH_AUTO_V2 : 0] = 0;
    return m->hash;
}

void model_hash_end(diffc_model *m)
{
    atomic_store(&m->hash_stop, 1);
    model_hash(m);
}
