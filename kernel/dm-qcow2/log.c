// SPDX-License-Identifier: GPL-2.0-only
/* Messages in the kernel log, which name the device and the image. */
#include "dm-qcow2.h"

/**
 * qcow2_log() - say something about an image in the kernel log
 * @q: the image
 * @level: KERN_ERR or the like
 * @fmt: format of the message, without a line end
 */
void qcow2_log(const struct qcow2_image *q, const char *level, const char *fmt,
	       ...)
{
	struct va_format vaf = { .fmt = fmt };
	va_list args;

	va_start(args, fmt);
	vaf.va = &args;
	printk("%s" DM_FMT("%s: %s: %pV"), level,
	       dm_table_device_name(q->ti->table), q->path, &vaf);
	va_end(args);
}
