"""The few machine instructions of our own, for each architecture that has them. All else is Python.

    CLONE ──► WALK     a child that shares our memory (spawn.py): walk(arguments, their size, program) → pid,
                       or a negative error number. In the child it does not return.
    start() ──► WALK   a program of its own (executable.py)

WALK performs a program of system calls (calls.py) until it ends or fails. It uses no stack and touches no
memory but the program.
"""

import struct
from typing import Final

CLONE: Final = {
    "x86_64": bytes.fromhex(
        "4989d0"  # mov r8, rdx           the program; a system call leaves r8 as it is
        "b8b3010000"  # mov eax, 435      clone3
        "0f05"  # syscall
        "4885c0"  # test rax, rax
        "7401"  # jz child
        "c3"  # ret
        # child:
        "4c89c3"  # mov rbx, r8
    ),
}

WALK: Final = {
    "x86_64": bytes.fromhex(
        # next:
        "488b03"  # mov rax, [rbx]        number
        "4885c0"  # test rax, rax
        "7e63"  # jle end                 END, or no program any more: zeros
        "488b7b08"  # mov rdi, [rbx+8]
        "488b7310"  # mov rsi, [rbx+16]
        "488b5318"  # mov rdx, [rbx+24]
        "4c8b5320"  # mov r10, [rbx+32]
        "4c8b4328"  # mov r8, [rbx+40]
        "4c8b4b30"  # mov r9, [rbx+48]
        "0f05"  # syscall
        "48894338"  # mov [rbx+56], rax   its result
        "483d01f0ffff"  # cmp rax, -4095
        "731e"  # jae failed
        "488b4b40"  # mov rcx, [rbx+64]   where else it belongs
        "4885c9"  # test rcx, rcx
        "7403"  # jz
        "488901"  # mov [rcx], rax
        "488b4b48"  # mov rcx, [rbx+72]
        "4885c9"  # test rcx, rcx
        "7403"  # jz
        "488901"  # mov [rcx], rax
        "4883c360"  # add rbx, 96
        "ebb4"  # jmp next
        # failed:
        "48f7d8"  # neg rax               the errno
        "b93f000000"  # mov ecx, 63       which stands for all above it
        "4839c8"  # cmp rax, rcx
        "480f47c1"  # cmova rax, rcx
        "488b4b50"  # mov rcx, [rbx+80]   may it be?
        "480fa3c1"  # bt rcx, rax
        "7306"  # jnc end
        "48035b58"  # add rbx, [rbx+88]
        "eb95"  # jmp next
        # end:
        "bf01000000"  # mov edi, 1
        "b8e7000000"  # mov eax, 231      exit_group
        "0f05"  # syscall
    ),
}


def start(architecture: str, program: int, execve: int) -> bytes:
    """The entry of an executable; both are addresses below 4 GiB. KeyError without code for that machine.

    program: where to walk. execve: the record whose arguments become our argv[1], argv[1:] and environment.
    """
    return {
        "x86_64": bytes.fromhex(
            "488b0c24"  # mov rcx, [rsp]      how many arguments there are, with our name
            "488d442410"  # lea rax, [rsp+16]
            "488d54cc10"  # lea rdx, [rsp+rcx*8+16]
            "488b38"  # mov rdi, [rax]
        )
        + struct.pack("<BIHI", 0xBB, program, 0xB841, execve)  # mov ebx, program; mov r8d, execve
        + bytes.fromhex(
            "49897808"  # mov [r8+8], rdi
            "49894010"  # mov [r8+16], rax
            "49895018"  # mov [r8+24], rdx
        ),
    }[architecture]
