/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dm-qcow2, from the top. Each floor is a folder with a header that says what
 * its files do, whom it may call, and in what order its locks are taken; calls
 * go down only. Documentation/dm-qcow2-design.rst has the table.
 *
 *   target.c   what device-mapper calls
 *   options.c  the table line, in and out
 *   device.c   start, stop, and what is left when a stop fails
 *   chain.c    the images below that the table line names
 *   base.c     images that several devices may have below (base.h)
 *   loss.c     images whose changes could not be written
 *   io/        bios and copies
 *   map/       from guest offsets to extents, and how that changes
 *   meta/      the tables of an image and their order on disk
 *   xform/     compressed clusters, as the guest sees them
 *   store/     the file or block device below
 *   format/    the on-disk format (compiled in userspace too)
 *   core/      messages, counters
 *
 * Lock order, outermost first:
 *
 *   record.busy        an image that could not be written (loss.c)
 *   base_list_lock     which images below are open; with none of these
 *   target.state_lock  start, stop, commit
 *   base.lock          start and stop of an image below
 *   those of the floors, from io/ down
 */
#ifndef QCOW2_TARGET_H
#define QCOW2_TARGET_H

#include "base.h"
#include "io/io.h"

#define QCOW2_DEFAULT_CACHE_KIB 32768

struct qcow2_record;
struct qcow2_link;

/**
 * struct qcow2_backing_arg - an image below, as the table line has it
 * @spec: the image
 * @raw: its format
 */
struct qcow2_backing_arg {
	const char *spec;
	bool raw;
};

/**
 * struct qcow2_images - the images that a table line names
 * @top: the one that is attached
 * @data_file: its external data file, or NULL
 * @backing: those below it, nearest first; freed by who parsed them
 * @nr_backing: how many
 */
struct qcow2_images {
	const char *top;
	const char *data_file;
	struct qcow2_backing_arg *backing;
	u32 nr_backing;
};

/**
 * struct qcow2_options - what the table line says
 * @read_only: never write
 * @no_lock: leave QEMU's locks alone
 * @accept_loss: go on from what is on disk, whatever was lost
 * @cache_kib: KiB of metadata to be cached at the most
 */
struct qcow2_options {
	bool read_only;
	bool no_lock;
	bool accept_loss;
	u32 cache_kib;
};

/**
 * struct qcow2_chain - the images below, nearest first
 * @nr: how many
 * @links: what the target has of each
 * @below: what map sees of each, while live
 */
struct qcow2_chain {
	u32 nr;
	struct qcow2_link *links;
	struct qcow2_below *below;
};

/**
 * struct qcow2_target - a table line and what it stands for
 * @ti: device-mapper's
 * @opt: what it says
 * @dev: what bios need
 * @chain: the images below
 * @state_lock: start and stop
 * @live: between a start and a stop, under @state_lock
 * @accept_loss: that is so for the next start, under @state_lock
 * @unsaved: the last stop could not write everything, under @state_lock
 * @record: for when changes cannot be written
 */
struct qcow2_target {
	struct dm_target *ti;
	struct qcow2_options opt;
	struct qcow2_device dev;
	struct qcow2_chain chain;
	struct mutex state_lock;	/* start, stop */
	bool live;
	bool accept_loss;
	bool unsaved;
	struct qcow2_record *record;
};

/**
 * struct qcow2_owner_ops - what loss.c asks of who has changes in memory
 * @write: writes them and stops; returns 0 or a negative error
 * @forget: drops them
 * @marked: whether the image's header says, durably, that it needs repair
 */
struct qcow2_owner_ops {
	int (*write)(struct qcow2_target *t);
	void (*forget)(struct qcow2_target *t);
	bool (*marked)(const struct qcow2_target *t);
};

/* options.c */
int qcow2_options_parse(struct qcow2_options *opt, struct dm_arg_set *as,
			struct qcow2_images *images, char **error);
void qcow2_options_emit(const struct qcow2_target *t, char *result,
			unsigned int maxlen);

/* chain.c */
int qcow2_chain_open(struct qcow2_target *t,
		     const struct qcow2_backing_arg *args, u32 nr);
void qcow2_chain_close(struct qcow2_target *t);
int qcow2_chain_start(struct qcow2_target *t);
void qcow2_chain_stop(struct qcow2_target *t);
void qcow2_chain_align(struct qcow2_target *t);
const char *qcow2_chain_name(const struct qcow2_target *t, bool *raw);
int qcow2_chain_devices(struct qcow2_target *t, iterate_devices_callout_fn fn,
			void *data);
u64 qcow2_chain_sum(const struct qcow2_target *t, enum qcow2_stat which);
const char *qcow2_chain_arg(const struct qcow2_target *t, u32 i,
			    const char **path);

/* loss.c */
int qcow2_loss_init(struct qcow2_target *t, const struct qcow2_owner_ops *ops);
void qcow2_loss_exit(struct qcow2_target *t);
void qcow2_loss_threatens(struct qcow2_target *t);
void qcow2_loss_note(struct qcow2_target *t);
void qcow2_loss_averted(struct qcow2_target *t);
int qcow2_loss_check(struct qcow2_target *t, bool resuming);
bool qcow2_loss_is_lost(const struct qcow2_store *st);
void qcow2_loss_accepted(struct qcow2_target *t);
void qcow2_loss_drop_all(void);

/* device.c */
struct qcow2_target *qcow2_device_new(struct dm_target *ti,
				      const struct qcow2_options *opt);
int qcow2_device_open(struct qcow2_target *t, const struct qcow2_images *images,
		      char **error);
void qcow2_device_destroy(struct qcow2_target *t);
int qcow2_device_start(struct qcow2_target *t);
int qcow2_device_stop(struct qcow2_target *t);
int qcow2_device_commit(struct qcow2_target *t);

#endif
