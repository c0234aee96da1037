// SPDX-License-Identifier: GPL-2.0-only
/*
 * QCOW2 on-disk format: entries of the snapshot table. Pure functions.
 *
 * An entry is a fixed part, extra data, the id and the name, and padding up to
 * a multiple of 8 bytes. Of the extra data, old programs write less than there
 * is now, and later ones may write more.
 */
#include "format.h"

struct snapshot_fixed {
	__be64 l1_table_offset;
	__be32 l1_size;
	__be16 id_str_size;
	__be16 name_size;
	__be32 date_sec;
	__be32 date_nsec;
	__be64 vm_clock_nsec;
	__be32 vm_state_size;
	__be32 extra_data_size;
} __packed;

struct snapshot_extra {
	__be64 vm_state_size;
	__be64 disk_size;
	__be64 icount;
} __packed;

/**
 * qcow2_snapshot_parse() - read the fixed part of a snapshot table entry
 * @buf: QCOW2_SNAPSHOT_FIXED bytes
 * @s: filled in; nothing in it has been bounded
 *
 * Source: specification, "Snapshots".
 */
void qcow2_snapshot_parse(const void *buf, struct qcow2_snapshot *s)
{
	struct snapshot_fixed raw;

	memcpy(&raw, buf, sizeof(raw));
	memset(s, 0, sizeof(*s));
	s->l1_offset = be64_to_cpu(raw.l1_table_offset);
	s->l1_size = be32_to_cpu(raw.l1_size);
	s->id_size = be16_to_cpu(raw.id_str_size);
	s->name_size = be16_to_cpu(raw.name_size);
	s->date_sec = be32_to_cpu(raw.date_sec);
	s->date_nsec = be32_to_cpu(raw.date_nsec);
	s->vm_clock_nsec = be64_to_cpu(raw.vm_clock_nsec);
	s->vm_state_size = be32_to_cpu(raw.vm_state_size);
	s->extra_size = be32_to_cpu(raw.extra_data_size);
}

/**
 * qcow2_snapshot_store() - write the fixed part of a snapshot table entry
 * @buf: QCOW2_SNAPSHOT_FIXED bytes
 * @s: what to write
 */
void qcow2_snapshot_store(void *buf, const struct qcow2_snapshot *s)
{
	struct snapshot_fixed raw = {
		.l1_table_offset = cpu_to_be64(s->l1_offset),
		.l1_size = cpu_to_be32(s->l1_size),
		.id_str_size = cpu_to_be16(s->id_size),
		.name_size = cpu_to_be16(s->name_size),
		.date_sec = cpu_to_be32(s->date_sec),
		.date_nsec = cpu_to_be32(s->date_nsec),
		.vm_clock_nsec = cpu_to_be64(s->vm_clock_nsec),
		.vm_state_size = cpu_to_be32(s->vm_state_size),
		.extra_data_size = cpu_to_be32(s->extra_size),
	};

	memcpy(buf, &raw, sizeof(raw));
}

/**
 * qcow2_snapshot_bytes() - how long a snapshot table entry is
 * @s: its fixed part
 *
 * Return: bytes with all variable parts, without the padding behind them.
 */
u64 qcow2_snapshot_bytes(const struct qcow2_snapshot *s)
{
	return QCOW2_SNAPSHOT_FIXED + (u64)s->extra_size + s->id_size +
	       s->name_size;
}

/**
 * qcow2_snapshot_extra_parse() - read what is known of the extra data
 * @buf: the extra data, or NULL if there is none
 * @len: bytes in @buf
 * @extra: filled in
 *
 * Return: how many of the fields of @extra are there, 0 to 3.
 */
int qcow2_snapshot_extra_parse(const void *buf, size_t len,
			       struct qcow2_snapshot_extra *extra)
{
	struct snapshot_extra raw = { 0 };
	size_t have = len < sizeof(raw) ? len : sizeof(raw);

	have -= have % 8;
	if (have)
		memcpy(&raw, buf, have);
	extra->vm_state_size = be64_to_cpu(raw.vm_state_size);
	extra->disk_size = be64_to_cpu(raw.disk_size);
	extra->icount = be64_to_cpu(raw.icount);
	return have / 8;
}

/**
 * qcow2_snapshot_extra_store() - write the extra data that is known
 * @buf: QCOW2_SNAPSHOT_EXTRA bytes
 * @extra: what to write
 */
void qcow2_snapshot_extra_store(void *buf,
				const struct qcow2_snapshot_extra *extra)
{
	struct snapshot_extra raw = {
		.vm_state_size = cpu_to_be64(extra->vm_state_size),
		.disk_size = cpu_to_be64(extra->disk_size),
		.icount = cpu_to_be64(extra->icount),
	};

	memcpy(buf, &raw, sizeof(raw));
}
