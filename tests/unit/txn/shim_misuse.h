/* SPDX-License-Identifier: GPL-2.0-only */
/* Tasks that do what kernel code must not do; the shim is to see it. */
#ifndef TXN_SHIM_MISUSE_H
#define TXN_SHIM_MISUSE_H

#ifdef __cplusplus
extern "C" {
#endif

struct misuse {
	const char *name;
	const char *says;
	void (*task)(void *arg);
};

/* Ends with one without a name. */
extern const struct misuse misuses[];

/* Nothing wrong with it: waits for work, for an event, and for readers. */
void proper_use(void *arg);

#ifdef __cplusplus
}
#endif

#endif
