#include "vae/vae.h"
