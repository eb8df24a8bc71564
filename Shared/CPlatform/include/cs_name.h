#ifndef CS_NAME_H
#define CS_NAME_H

/// Names the calling thread for `ps -L`, debuggers and traces; longer names are cut to 15 bytes.
void cs_thread_set_name(const char *name);

#endif
