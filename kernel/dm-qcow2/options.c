// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table line:
 *
 *   <image> [<#args> [read_only] [cache_kib <n>] [no_lock] [accept_loss]
 *	      [data_file <image>] [backing <format> <image>]...]
 *
 * <image>: /absolute/path or fd:<n>; <format>: qcow2 or raw
 *
 * Takes no locks.
 */
#include "target.h"

#include <linux/slab.h>

#define MIN_CACHE_KIB 64
#define MAX_ARGS 8192

static int options_cache(struct dm_arg_set *as, struct qcow2_options *opt,
			 char **error)
{
	const char *value = as->argc ? dm_shift_arg(as) : NULL;

	if (!value || kstrtou32(value, 10, &opt->cache_kib) ||
	    opt->cache_kib < MIN_CACHE_KIB) {
		*error = "cache_kib needs a number of KiB, at least 64";
		return -EINVAL;
	}
	return 0;
}

static int options_backing(struct dm_arg_set *as, struct qcow2_images *images,
			   char **error)
{
	struct qcow2_backing_arg *arg = &images->backing[images->nr_backing];
	const char *format;

	if (as->argc < 2) {
		*error = "backing needs a format and an image";
		return -EINVAL;
	}
	format = dm_shift_arg(as);
	arg->raw = !strcmp(format, "raw");
	if (!arg->raw && strcmp(format, "qcow2")) {
		*error = "the format of a backing image is qcow2 or raw";
		return -EINVAL;
	}
	arg->spec = dm_shift_arg(as);
	images->nr_backing++;
	return 0;
}

static int options_data_file(struct dm_arg_set *as, struct qcow2_images *images,
			     char **error)
{
	if (!as->argc || images->data_file) {
		*error = "data_file needs an image, and there is one at the most";
		return -EINVAL;
	}
	images->data_file = dm_shift_arg(as);
	return 0;
}

static int options_one(struct dm_arg_set *as, struct qcow2_options *opt,
		       struct qcow2_images *images, char **error)
{
	const char *arg = dm_shift_arg(as);

	if (!strcmp(arg, "backing"))
		return options_backing(as, images, error);
	if (!strcmp(arg, "cache_kib"))
		return options_cache(as, opt, error);
	if (!strcmp(arg, "data_file"))
		return options_data_file(as, images, error);
	if (!strcmp(arg, "read_only")) {
		opt->read_only = true;
	} else if (!strcmp(arg, "no_lock")) {
		opt->no_lock = true;
	} else if (!strcmp(arg, "accept_loss")) {
		opt->accept_loss = true;
	} else {
		*error = "unknown optional argument";
		return -EINVAL;
	}
	return 0;
}

/**
 * qcow2_options_parse() - read a table line
 * @opt: zeroed; filled in
 * @as: its arguments
 * @images: zeroed; set to those that are images
 * @error: set after an error
 *
 * Return: 0 or a negative error; @images->backing is to be freed either way.
 */
int qcow2_options_parse(struct qcow2_options *opt, struct dm_arg_set *as,
			struct qcow2_images *images, char **error)
{
	static const struct dm_arg count = {
		0, MAX_ARGS, "invalid number of optional arguments"
	};
	unsigned int nr;
	int r;

	opt->cache_kib = QCOW2_DEFAULT_CACHE_KIB;
	if (!as->argc) {
		*error = "no image given";
		return -EINVAL;
	}
	images->top = dm_shift_arg(as);
	if (!as->argc)
		return 0;
	r = dm_read_arg_group(&count, as, &nr, error);
	if (r)
		return r;
	if (as->argc != nr) {
		*error = "more arguments than the number of them says";
		return -EINVAL;
	}
	/* Each has three arguments. */
	images->backing = kvcalloc(nr / 3 + 1, sizeof(*images->backing),
				   GFP_KERNEL);
	if (!images->backing) {
		*error = "out of memory";
		return -ENOMEM;
	}
	while (!r && as->argc)
		r = options_one(as, opt, images, error);
	return r;
}

static void options_emit_escaped(const char *s, char *result, unsigned int maxlen,
				 unsigned int *size)
{
	unsigned int sz = *size;

	for (; *s; s++) {
		if (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\\')
			DMEMIT("\\");
		DMEMIT("%c", *s);
	}
	*size = sz;
}

static void options_emit_chain(const struct qcow2_target *t, char *result,
			       unsigned int maxlen, unsigned int *size)
{
	unsigned int sz = *size;
	const char *path;
	u32 i;

	for (i = 0; i < t->chain.nr; i++) {
		DMEMIT(" backing %s ", qcow2_chain_arg(t, i, &path));
		options_emit_escaped(path, result, maxlen, &sz);
	}
	*size = sz;
}

/**
 * qcow2_options_emit() - write a table line that can be loaded again
 * @t: what it stands for
 * @result: for the line
 * @maxlen: bytes at @result
 */
void qcow2_options_emit(const struct qcow2_target *t, char *result,
			unsigned int maxlen)
{
	const struct qcow2_options *opt = &t->opt;
	bool cache = opt->cache_kib != QCOW2_DEFAULT_CACHE_KIB;
	const char *data = t->dev.data_file.path;
	unsigned int args, sz = 0;

	args = opt->read_only + opt->no_lock + 2 * cache + 2 * !!data +
	       3 * t->chain.nr;
	options_emit_escaped(t->dev.core.path, result, maxlen, &sz);
	if (args)
		DMEMIT(" %u", args);
	if (opt->read_only)
		DMEMIT(" read_only");
	if (cache)
		DMEMIT(" cache_kib %u", opt->cache_kib);
	if (opt->no_lock)
		DMEMIT(" no_lock");
	if (data) {
		DMEMIT(" data_file ");
		options_emit_escaped(data, result, maxlen, &sz);
	}
	options_emit_chain(t, result, maxlen, &sz);
}
