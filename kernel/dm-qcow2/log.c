// SPDX-License-Identifier: GPL-2.0-only
/* Messages in the kernel log, which name the device and the image. */
#include "dm-qcow2.h"

/**
 * qcow2_err() - log an error
 * @q: the image
 * @fmt: format of the message, without a line end
 */
void qcow2_err(const struct qcow2_image *q, const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	va_start(args, fmt);
	vaf.va = &args;
	DMERR("%s: %s: %pV", dm_table_device_name(q->ti->table), q->path, &vaf);
	va_end(args);
}

/**
 * qcow2_info() - log a fact
 * @q: the image
 * @fmt: format of the message, without a line end
 */
void qcow2_info(const struct qcow2_image *q, const char *fmt, ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	va_start(args, fmt);
	vaf.va = &args;
	DMINFO("%s: %s: %pV", dm_table_device_name(q->ti->table), q->path, &vaf);
	va_end(args);
}
