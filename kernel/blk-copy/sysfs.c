// SPDX-License-Identifier: GPL-2.0-only
/*
 * The attributes in copy/ of a disk. Takes no locks.
 */
#include <linux/device.h>
#include <linux/export.h>
#include <linux/sysfs.h>

#include "blk-copy.h"

static ssize_t blk_copy_show(struct device *dev, char *page,
			     u64 (*get)(struct blk_copy_provider *p))
{
	struct blk_copy_provider *p = blk_copy_get(dev_to_disk(dev));
	u64 value;

	if (!p)
		return -ENODEV;
	value = get(p);
	blk_copy_put(p);
	return sysfs_emit(page, "%llu\n", value);
}

#define BLK_COPY_SHOW(_name, _value)					\
static u64 blk_copy_get_##_name(struct blk_copy_provider *p)		\
{									\
	return _value;							\
}									\
									\
static ssize_t _name##_show(struct device *dev,				\
			    struct device_attribute *attr, char *page)	\
{									\
	return blk_copy_show(dev, page, blk_copy_get_##_name);		\
}

BLK_COPY_SHOW(max_bytes, READ_ONCE(p->max_bytes))
BLK_COPY_SHOW(max_hw_bytes, p->limits.max_bytes)
BLK_COPY_SHOW(granularity, p->limits.granularity)
BLK_COPY_SHOW(optimal, p->limits.optimal)
BLK_COPY_SHOW(offloaded, atomic64_read(&p->offloaded))
BLK_COPY_SHOW(emulated, atomic64_read(&p->emulated))
BLK_COPY_SHOW(failed, atomic64_read(&p->failed))

static ssize_t max_bytes_store(struct device *dev,
			       struct device_attribute *attr, const char *page,
			       size_t count)
{
	struct blk_copy_provider *p;
	u64 value;
	int err = kstrtou64(page, 0, &value);

	if (err)
		return err;
	p = blk_copy_get(dev_to_disk(dev));
	if (!p)
		return -ENODEV;
	if (value > p->limits.max_bytes)
		err = -EINVAL;
	else
		WRITE_ONCE(p->max_bytes,
			   round_down(value, (u64)p->limits.granularity));
	blk_copy_put(p);
	return err ?: count;
}

static DEVICE_ATTR_RW(max_bytes);
static DEVICE_ATTR_RO(max_hw_bytes);
static DEVICE_ATTR_RO(granularity);
static DEVICE_ATTR_RO(optimal);
static DEVICE_ATTR_RO(offloaded);
static DEVICE_ATTR_RO(emulated);
static DEVICE_ATTR_RO(failed);

static struct attribute *blk_copy_attrs[] = {
	&dev_attr_max_bytes.attr,
	&dev_attr_max_hw_bytes.attr,
	&dev_attr_granularity.attr,
	&dev_attr_optimal.attr,
	&dev_attr_offloaded.attr,
	&dev_attr_emulated.attr,
	&dev_attr_failed.attr,
	NULL,
};

const struct attribute_group blk_copy_attr_group = {
	.name = "copy",
	.attrs = blk_copy_attrs,
};
EXPORT_SYMBOL_GPL(blk_copy_attr_group);
