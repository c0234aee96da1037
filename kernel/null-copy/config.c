// SPDX-License-Identifier: GPL-2.0-only
/*
 * configfs: a directory in null-copy/ is a disk. Its values are set first; 1 to
 * power makes the disk, 0 removes it, and so does removing the directory.
 *
 * Locks: null_copy_item.lock.
 */
#include <linux/bits.h>
#include <linux/configfs.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "null-copy.h"

#define NULL_COPY_MAX_QUEUES	64
#define NULL_COPY_MAX_DEPTH	1024
#define NULL_COPY_MAX_MIB	BIT_ULL(40)
#define NULL_COPY_MAX_ZONES	BIT_ULL(20)

/**
 * struct null_copy_item - a directory
 * @item: in configfs
 * @lock: protects the rest
 * @config: values for the next disk
 * @nc: the disk; NULL without power
 */
struct null_copy_item {
	struct config_item item;
	struct mutex lock; /* config, nc */
	struct null_copy_config config;
	struct null_copy *nc;
};

static struct null_copy_item *null_copy_to_item(struct config_item *item)
{
	return container_of(item, struct null_copy_item, item);
}

/* Stores a value for the next disk, while there is none. */
static ssize_t null_copy_store_value(struct null_copy_item *ni,
				     const char *page, size_t count,
				     size_t offset, size_t size)
{
	void *field = (void *)&ni->config + offset;
	u64 value;
	int err;

	if (size == sizeof(bool)) {
		bool yes;

		err = kstrtobool(page, &yes);
		value = yes;
	} else {
		err = kstrtou64(page, 0, &value);
	}
	if (err)
		return err;
	if (size == sizeof(u32) && value > U32_MAX)
		return -ERANGE;
	mutex_lock(&ni->lock);
	if (ni->nc)
		err = -EBUSY;
	else if (size == sizeof(bool))
		*(bool *)field = value;
	else if (size == sizeof(u32))
		*(u32 *)field = value;
	else
		*(u64 *)field = value;
	mutex_unlock(&ni->lock);
	return err ?: count;
}

#define NULL_COPY_ATTR(_name)						\
static ssize_t null_copy_##_name##_show(struct config_item *item,	\
					char *page)			\
{									\
	struct null_copy_item *ni = null_copy_to_item(item);		\
									\
	return sprintf(page, "%llu\n",					\
		       (u64)READ_ONCE(ni->config._name));		\
}									\
									\
static ssize_t null_copy_##_name##_store(struct config_item *item,	\
					 const char *page, size_t n)	\
{									\
	struct null_copy_item *ni = null_copy_to_item(item);		\
									\
	return null_copy_store_value(ni, page, n,			\
		offsetof(struct null_copy_config, _name),		\
		sizeof_field(struct null_copy_config, _name));		\
}									\
									\
CONFIGFS_ATTR(null_copy_, _name)

NULL_COPY_ATTR(size);
NULL_COPY_ATTR(blocksize);
NULL_COPY_ATTR(submit_queues);
NULL_COPY_ATTR(hw_queue_depth);
NULL_COPY_ATTR(completion_nsec);
NULL_COPY_ATTR(copy_max_bytes);
NULL_COPY_ATTR(zoned);
NULL_COPY_ATTR(zone_size);
NULL_COPY_ATTR(zone_nr_conv);
NULL_COPY_ATTR(zone_max_open);
NULL_COPY_ATTR(zone_max_active);

static bool null_copy_zones_valid(const struct null_copy_config *c)
{
	if (!c->zoned)
		return true;
	/* Sectors of a zone are 32 bits to the block layer. */
	return is_power_of_2(c->zone_size) && c->zone_size <= 1 << 20 &&
	       !(c->size & (c->zone_size - 1)) &&
	       c->zone_nr_conv < div64_u64(c->size, c->zone_size) &&
	       div64_u64(c->size, c->zone_size) <= NULL_COPY_MAX_ZONES &&
	       !(c->zone_max_active && c->zone_max_open > c->zone_max_active);
}

static bool null_copy_config_valid(const struct null_copy_config *c)
{
	return c->size && c->size <= NULL_COPY_MAX_MIB &&
	       is_power_of_2(c->blocksize) && c->blocksize >= SECTOR_SIZE &&
	       c->blocksize <= PAGE_SIZE && c->submit_queues &&
	       c->submit_queues <= NULL_COPY_MAX_QUEUES && c->hw_queue_depth &&
	       c->hw_queue_depth <= NULL_COPY_MAX_DEPTH &&
	       c->completion_nsec <= 60 * NSEC_PER_SEC &&
	       null_copy_zones_valid(c);
}

static int null_copy_switch_on(struct null_copy_item *ni)
{
	struct null_copy *nc;

	lockdep_assert_held(&ni->lock);
	if (ni->nc)
		return 0;
	if (!null_copy_config_valid(&ni->config))
		return -EINVAL;
	nc = null_copy_create(&ni->config);
	if (IS_ERR(nc))
		return PTR_ERR(nc);
	ni->nc = nc;
	return 0;
}

static void null_copy_switch_off(struct null_copy_item *ni)
{
	if (ni->nc)
		null_copy_destroy(ni->nc);
	ni->nc = NULL;
}

static ssize_t null_copy_power_show(struct config_item *item, char *page)
{
	return sprintf(page, "%d\n", !!READ_ONCE(null_copy_to_item(item)->nc));
}

static ssize_t null_copy_power_store(struct config_item *item, const char *page,
				     size_t count)
{
	struct null_copy_item *ni = null_copy_to_item(item);
	bool on;
	int err = kstrtobool(page, &on);

	if (err)
		return err;
	mutex_lock(&ni->lock);
	if (on)
		err = null_copy_switch_on(ni);
	else
		null_copy_switch_off(ni);
	mutex_unlock(&ni->lock);
	return err ?: count;
}

CONFIGFS_ATTR(null_copy_, power);

/* What is told of a disk that exists. */
static ssize_t null_copy_show_disk(struct config_item *item, char *page,
				   ssize_t (*show)(struct null_copy *nc,
						   char *page))
{
	struct null_copy_item *ni = null_copy_to_item(item);
	ssize_t n = -ENODEV;

	mutex_lock(&ni->lock);
	if (ni->nc)
		n = show(ni->nc, page);
	mutex_unlock(&ni->lock);
	return n;
}

static ssize_t null_copy_name_of(struct null_copy *nc, char *page)
{
	return sprintf(page, "%s\n", nc->disk->disk_name);
}

static ssize_t null_copy_disk_show(struct config_item *item, char *page)
{
	return null_copy_show_disk(item, page, null_copy_name_of);
}

CONFIGFS_ATTR_RO(null_copy_, disk);

static ssize_t null_copy_memory_of(struct null_copy *nc, char *page)
{
	return sprintf(page, "%llu\n",
		       (u64)atomic_long_read(&nc->nr_pages) << PAGE_SHIFT);
}

static ssize_t null_copy_memory_show(struct config_item *item, char *page)
{
	return null_copy_show_disk(item, page, null_copy_memory_of);
}

CONFIGFS_ATTR_RO(null_copy_, memory);

static ssize_t null_copy_faults_show(struct config_item *item, char *page)
{
	return null_copy_show_disk(item, page, null_copy_fault_show);
}

static ssize_t null_copy_faults_store(struct config_item *item,
				      const char *page, size_t count)
{
	struct null_copy_item *ni = null_copy_to_item(item);
	int err = 0;

	mutex_lock(&ni->lock);
	if (!ni->nc)
		err = -ENODEV;
	else if (sysfs_streq(page, "clear"))
		null_copy_fault_clear(ni->nc);
	else
		err = null_copy_fault_add(ni->nc, page);
	mutex_unlock(&ni->lock);
	return err ?: count;
}

CONFIGFS_ATTR(null_copy_, faults);

static struct configfs_attribute *null_copy_item_attrs[] = {
	&null_copy_attr_size,
	&null_copy_attr_blocksize,
	&null_copy_attr_submit_queues,
	&null_copy_attr_hw_queue_depth,
	&null_copy_attr_completion_nsec,
	&null_copy_attr_copy_max_bytes,
	&null_copy_attr_zoned,
	&null_copy_attr_zone_size,
	&null_copy_attr_zone_nr_conv,
	&null_copy_attr_zone_max_open,
	&null_copy_attr_zone_max_active,
	&null_copy_attr_power,
	&null_copy_attr_disk,
	&null_copy_attr_memory,
	&null_copy_attr_faults,
	NULL,
};

static void null_copy_release_item(struct config_item *item)
{
	kfree(null_copy_to_item(item));
}

static struct configfs_item_operations null_copy_item_ops = {
	.release = null_copy_release_item,
};

static const struct config_item_type null_copy_item_type = {
	.ct_item_ops = &null_copy_item_ops,
	.ct_attrs = null_copy_item_attrs,
	.ct_owner = THIS_MODULE,
};

static struct config_item *null_copy_make_item(struct config_group *group,
					       const char *name)
{
	struct null_copy_item *ni = kzalloc(sizeof(*ni), GFP_KERNEL);

	if (!ni)
		return ERR_PTR(-ENOMEM);
	mutex_init(&ni->lock);
	ni->config = (struct null_copy_config) {
		.size = 256,
		.blocksize = SECTOR_SIZE,
		.submit_queues = 1,
		.hw_queue_depth = 64,
		.copy_max_bytes = 128 << 20,
		.zone_size = 16,
	};
	config_item_init_type_name(&ni->item, name, &null_copy_item_type);
	return &ni->item;
}

static void null_copy_drop_item(struct config_group *group,
				struct config_item *item)
{
	struct null_copy_item *ni = null_copy_to_item(item);

	mutex_lock(&ni->lock);
	null_copy_switch_off(ni);
	mutex_unlock(&ni->lock);
	config_item_put(item);
}

static struct configfs_group_operations null_copy_group_ops = {
	.make_item = null_copy_make_item,
	.drop_item = null_copy_drop_item,
};

static const struct config_item_type null_copy_group_type = {
	.ct_group_ops = &null_copy_group_ops,
	.ct_owner = THIS_MODULE,
};

static struct configfs_subsystem null_copy_subsys = {
	.su_group = {
		.cg_item = {
			.ci_namebuf = "null-copy",
			.ci_type = &null_copy_group_type,
		},
	},
};

/**
 * null_copy_config_init() - make the directory
 *
 * Return: 0 or a negative error.
 */
int null_copy_config_init(void)
{
	config_group_init(&null_copy_subsys.su_group);
	mutex_init(&null_copy_subsys.su_mutex);
	return configfs_register_subsystem(&null_copy_subsys);
}

/**
 * null_copy_config_exit() - take it away
 */
void null_copy_config_exit(void)
{
	configfs_unregister_subsystem(&null_copy_subsys);
}
