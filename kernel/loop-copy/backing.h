/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What is below a disk. Calls file-io; takes no locks.
 */
#ifndef LOOP_COPY_BACKING_H
#define LOOP_COPY_BACKING_H

#include "../file-io/api.h"
#include "loop-copy.h"

struct gendisk;
struct loop_copy_buf;

/**
 * struct loop_copy_backing - what is below a disk
 */
struct loop_copy_backing {
	/** @file: the file */
	struct file_io file;
	/** @disk: the disk, for its size and its block size */
	struct gendisk *disk;
	/**
	 * @spare: memory of a copy that is over, for the next; taken by xchg()
	 */
	struct loop_copy_buf *spare;
};

int loop_copy_backing_open(struct loop_copy_backing *b, int fd, u32 flags);
void loop_copy_backing_close(struct loop_copy_backing *b);

#endif
